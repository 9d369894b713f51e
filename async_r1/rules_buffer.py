"""Rules of groups, draws and admission: combinations that could not make progress."""

import math
from collections.abc import Iterator
from itertools import pairwise

from async_r1.config import Config
from async_r1.config_buffer import PriorityConfig

SEGMENT_BYTES = 9  # of a token in a segment: its id, its log-prob, its mask


def groups(config: Config) -> Iterator[str]:
    buffer, learner = config.buffer, config.learner
    if buffer.group_size < 2:
        yield (
            f"buffer.group_size must be >= 2, got {buffer.group_size}: advantages are centred in "
            f"the group, and a group of one has none"
        )
    if buffer.min_rollouts > buffer.group_size:
        yield (
            f"buffer.min_rollouts must be <= buffer.group_size={buffer.group_size}, "
            f"got {buffer.min_rollouts}"
        )
    yield from _screening(config)
    yield from _capacity(config)
    if learner.groups_per_update * buffer.group_size < learner.ranks:
        yield (
            f"learner.ranks must be <= learner.groups_per_update * buffer.group_size="
            f"{learner.groups_per_update * buffer.group_size}, got {learner.ranks}: some would "
            f"have nothing to train"
        )


def _capacity(config: Config) -> Iterator[str]:
    """What must fit at once: a draw's groups in the table, a segment in the credit."""
    buffer, learner, actors = config.buffer, config.learner, config.actors
    if buffer.max_size < learner.groups_per_update:
        yield (
            f"buffer.max_size must be >= learner.groups_per_update={learner.groups_per_update}, "
            f"got {buffer.max_size}: no batch would ever be complete"
        )
    if buffer.min_size > buffer.max_size:
        yield (
            f"buffer.min_size must be <= buffer.max_size={buffer.max_size}, got {buffer.min_size}: "
            f"the table would give groups up before the first batch"
        )
    of_version = learner.groups_per_update * learner.updates_per_publish
    if config.mode == "sync" and buffer.max_size < of_version:
        yield (
            f"buffer.max_size must be >= learner.groups_per_update * learner.updates_per_publish="
            f"{of_version} with mode=sync, got {buffer.max_size}: nothing trains before all groups "
            f"of a version have closed"
        )
    prompt = config.model.max_length - config.task.max_new_tokens
    segment = SEGMENT_BYTES * min(actors.segment_tokens, config.task.max_new_tokens) + 4 * prompt
    if actors.credit_bytes < segment:
        yield (
            f"actors.credit_bytes must be >= {SEGMENT_BYTES} * actors.segment_tokens + 4 * (model."
            f"max_length - task.max_new_tokens)={segment}, got {actors.credit_bytes}: each segment "
            f"would wait until the one before is acknowledged"
        )


def _screening(config: Config) -> Iterator[str]:
    screen, buffer = config.curriculum.screen, config.buffer
    if not screen:
        return
    if not 2 <= screen <= buffer.group_size:
        yield (
            f"curriculum.screen must be 0, or >= 2 and <= buffer.group_size={buffer.group_size}, "
            f"got {screen}: a group grows if some are right and some are not, and one is not both"
        )
    if not buffer.refill_max:
        yield (
            f"curriculum.screen={screen} needs buffer.refill_max >= 1, got 0: every group screened "
            f"out would leave its place in the batch empty; 8 serves up to 8 of 9 screened out"
        )
    if buffer.keep_zero_variance:
        yield (
            f"curriculum.screen={screen} needs buffer.keep_zero_variance=false: it leaves out what "
            f"that option keeps"
        )


def curriculum(config: Config) -> Iterator[str]:
    options = config.curriculum
    windows = options.kimi_curriculum.windows
    if options.mix.kimi_curriculum and not windows:
        yield (
            "curriculum.kimi_curriculum.windows must have at least one window, got []; "
            "curriculum=kimi_curriculum has some"
        )
    versions = [window.version for window in windows]
    if any(after <= before for before, after in pairwise(versions)):
        yield (
            f"curriculum.kimi_curriculum.windows must be in order of their versions, got {versions}"
        )
    for number, window in enumerate(windows):
        if window.high <= window.low:
            yield (
                f"curriculum.kimi_curriculum.windows[{number}].high must be > its low="
                f"{window.low:g}, got {window.high:g}: nothing would be in the window"
            )
    pools = options.pools
    if pools.hard_at >= pools.easy_at:
        yield (
            f"curriculum.pools.hard_at must be < curriculum.pools.easy_at={pools.easy_at:g}, got "
            f"{pools.hard_at:g}"
        )
    greso = options.greso
    if not greso.lowest <= greso.initial <= greso.highest:
        yield (
            f"curriculum.greso.initial must be from curriculum.greso.lowest={greso.lowest:g} to "
            f"curriculum.greso.highest={greso.highest:g}, got {greso.initial:g}"
        )


def rates(config: Config) -> Iterator[str]:
    """What could not go on for ever, by what a draw takes and what admission lets live.

    With S samples per insert, U updates per version and B groups a draw, admission leases
    (v + eta + 1) U B / S groups by version v, and its last draw comes when (v U + U - 1) B samples
    are consumed. What is left, at least (eta U + 1) B / S groups, must hold the B of that draw.
    """
    buffer, learner, eta = config.buffer, config.learner, config.staleness.eta
    ratio, batch = buffer.samples_per_insert, learner.groups_per_update
    if ratio > buffer.max_times_sampled:
        yield (
            f"buffer.samples_per_insert must be <= buffer.max_times_sampled="
            f"{buffer.max_times_sampled}, got {ratio:g}: groups would leave before the learner "
            f"has sampled enough; raise buffer.max_times_sampled"
        )
    most = eta * learner.updates_per_publish + 1
    if ratio > most:
        yield (
            f"buffer.samples_per_insert must be <= staleness.eta * learner.updates_per_publish + 1"
            f"={most}, got {ratio:g}: admission would stop before the last draw of a version has "
            f"its {batch} groups; raise staleness.eta"
        )
    admitted = math.ceil((eta + 1) * learner.updates_per_publish * batch / ratio)
    if buffer.min_size > admitted:
        yield (
            f"buffer.min_size must be <= (staleness.eta + 1) * learner.updates_per_publish * "
            f"learner.groups_per_update / buffer.samples_per_insert={admitted}, got "
            f"{buffer.min_size}: no more groups are admitted before the first batch; lower it, or "
            f"raise staleness.eta"
        )


def items(config: Config) -> Iterator[str]:
    """What a batch of single rollouts cannot be asked for; options that nothing looks at."""
    buffer, objective = config.buffer, config.objective
    if buffer.item == "rollout" and objective.advantage_norm == "group":
        yield (
            "objective.advantage_norm=group needs buffer.item=group: the deviation of a group "
            "cannot be had from the members that a draw happens to take; use "
            "objective.advantage_norm=batch"
        )
    if buffer.item == "rollout" and objective.aggregation == "prompt":
        yield (
            "objective.aggregation=prompt needs buffer.item=group: it gives each prompt the same "
            "weight, however many of its members a draw happens to take; use "
            "objective.aggregation=token"
        )
    if not buffer.priority.factors:
        yield "buffer.priority.factors must name a factor, got []; [constant] goes by age alone"
    if buffer.priority != PriorityConfig() and not buffer.goes_by_priority:
        yield (
            f"buffer.priority has no effect with buffer.sampler={buffer.sampler} and "
            f"buffer.remover={buffer.remover}; set buffer.sampler=prioritized"
        )
