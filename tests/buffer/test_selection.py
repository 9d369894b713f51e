"""Selection bias: fates and distributions against a naive twin, and when the warning fires."""

import json
import logging
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from async_r1.metric_catalog import find_metric
from buffer.fates import KINDS, LENGTH_EDGES, Fate
from buffer.groups import ClosedGroup, Group, close
from buffer.rollout import Rollout, RolloutState
from buffer.selection import WARN_EVERY, Selection
from buffer.selection_metrics import MIN_GROUPS
from buffer.staleness import Staleness
from tests.buffer.fakes import make_config, make_prompt, scored_rollout
from tests.buffer.simulation import World
from tests.buffer.test_ks import slow_ks

ETA = 2
STALENESS = Staleness(ETA, "mask")


def make_group(
    group_id: int,
    versions: list[list[int]],
    *,
    totals: list[float] | None = None,
    expired: tuple[int, ...] = (),
    failed: tuple[int, ...] = (),
    min_rollouts: int = 1,
    level: int | None = None,
) -> tuple[Group, ClosedGroup]:
    """A group whose members have these versions per token; some came late or failed."""
    prompt = make_prompt(group_id if level is None else level - 1)
    members = []
    for i, of_tokens in enumerate(versions):
        total = float(i % 2) if totals is None else totals[i]
        rollout = scored_rollout(
            100 * group_id + i, group_id=group_id, member=i, total=total, versions=of_tokens,
            prompt=prompt,
        )  # fmt: skip
        if i in failed:
            rollout.state = RolloutState.FAILED
        elif i in expired:
            rollout.state = RolloutState.SUSPENDED
        members.append(rollout)
    group = Group(
        group_id=group_id, prompt=prompt, members=members, opened_version=0, opened_at=0.0
    )
    return group, close(group, min_rollouts=min_rollouts)


class Twin:
    """Keeps everything that ever happened, and counts it again for every question."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.rollouts: dict[int, Rollout] = {}
        self.fates: dict[int, Fate] = {}
        self.recent: list[int] = []  # in the order of the decisions
        self.uses: defaultdict[int, list[int]] = defaultdict(list)  # versions of its draws

    def decide(self, key: int, fate: Fate) -> None:
        if key not in self.fates:
            self.fates[key] = fate
            self.recent = [*self.recent, key][-self.window :]

    def refund(self, key: int) -> None:
        self.uses[key].pop()
        if not self.uses[key]:
            del self.fates[key]
            self.recent.remove(key)

    def trained(self, key: int) -> list[int]:
        versions = self.rollouts[key].versions.tolist()
        return [sum(at - v <= ETA for v in versions) for at in self.uses[key]]

    def tokens(self, kind: str) -> dict[int, int]:
        if kind == "generated":
            return {key: rollout.num_tokens for key, rollout in self.rollouts.items()}
        if kind == Fate.TRAINED:
            return {key: sum(self.trained(key)) for key in self.rollouts}
        if kind == Fate.MASKED:
            return {
                key: rollout.num_tokens * len(self.uses[key]) - sum(self.trained(key))
                for key, rollout in self.rollouts.items()
            }
        return {key: self.rollouts[key].num_tokens for key, f in self.fates.items() if f == kind}

    def counted(self, kind: str) -> list[int]:
        if kind == "generated":
            return list(self.rollouts)
        return [key for key, fate in self.fates.items() if fate == kind]

    def check(self, row: dict[str, Any]) -> None:
        levels = {key: rollout.prompt.level for key, rollout in self.rollouts.items()}
        lengths = {key: rollout.num_tokens for key, rollout in self.rollouts.items()}
        for kind in KINDS:
            for unit, values in (
                ("rollouts", dict.fromkeys(self.counted(kind), 1)),
                ("tokens", self.tokens(kind)),
            ):
                name = f"selection/{kind}_{unit}"
                by_level = dict(zip(row["selection/levels"], row.get(f"{name}/by_level", []),
                                    strict=False))  # fmt: skip
                for level in set(levels.values()):
                    expected = sum(n for key, n in values.items() if levels[key] == level)
                    assert by_level.get(level, 0) == expected, (name, level)
                edges = [*row["selection/length_edges"], 2**40]
                found = row.get(f"{name}/by_length", [0] * (len(edges) - 1))
                for i, number in enumerate(found):
                    inside = [k for k in values if edges[i] <= lengths[k] < edges[i + 1]]
                    assert number == sum(values[key] for key in inside), (name, i)
        recent = self.recent
        kept = [key for key in recent if self.fates[key] is not Fate.ZERO_VARIANCE]
        for keys, stat in ((recent, ""), (kept, "/with_variance")):
            ones = [1] * len(keys)
            uses = [sum(n > 0 for n in self.trained(key)) for key in keys]
            trained = [sum(self.trained(key)) for key in keys]
            sizes = [lengths[key] for key in keys]
            for name, x, a, b in (
                ("length", sizes, ones, uses),
                ("level", [levels[key] for key in keys], ones, uses),
                ("tokens", sizes, sizes, trained),
            ):
                expected_ks = slow_ks(x, a, b) if sum(uses) else None
                assert row.get(f"selection/ks_{name}{stat}") == pytest.approx(expected_ks)
        for fate in Fate:
            sizes = [lengths[key] for key in recent if self.fates[key] is fate]
            mean = row.get(f"selection/{fate}_length/mean")
            assert mean == (pytest.approx(np.mean(sizes)) if sizes else None)


@pytest.mark.parametrize("seed", range(6))
def test_fates_and_distributions_against_a_naive_twin(seed: int) -> None:
    """Random groups, draws (of some more than once), refunds and removals, in lockstep; the state
    goes through `state_dict` now and then."""
    rng = np.random.default_rng(seed)
    keep_zero = bool(seed % 2)
    make = lambda: Selection(window=64, keep_zero_variance=keep_zero)  # noqa: E731
    selection, twin = make(), Twin(64)
    table: dict[int, list[Rollout]] = {}
    draws: list[tuple[list[int], int]] = []
    version, since = 0, defaultdict(int)
    for step in range(120):
        size = int(rng.integers(2, 5))
        versions = [
            np.sort(rng.integers(max(0, version - 4), version + 1, 1 + int(rng.geometric(0.1))))
            for _ in range(size)
        ]
        marks = rng.random(size)
        group, closed = make_group(
            step,
            [v.tolist() for v in versions],
            totals=[0.0] * size if rng.random() < 0.3 else None,
            expired=tuple(np.flatnonzero(marks < 0.1)),
            failed=tuple(np.flatnonzero(marks > 0.9)) or ((0,) if (marks < 0.1).all() else ()),
            min_rollouts=2,
        )
        selection.closed(group, closed)
        twin.rollouts |= {rollout.rollout_id: rollout for rollout in group.members}
        leaves = closed.too_few or (closed.zero_variance and not keep_zero)
        for rollout in group.members:
            if rollout.state is RolloutState.FAILED:
                twin.decide(rollout.rollout_id, Fate.FAILED)
            elif rollout.state is RolloutState.EXPIRED:
                twin.decide(rollout.rollout_id, Fate.EXPIRED)
            elif leaves:
                fate = Fate.TOO_FEW if closed.too_few else Fate.ZERO_VARIANCE
                twin.decide(rollout.rollout_id, fate)
        if not leaves:
            table[step] = closed.rollouts
        what = rng.random()
        if table and what < 0.6:
            chosen = [int(i) for i in rng.permutation(list(table))[:2]]
            for i in chosen:
                selection.drawn(table[i], version, STALENESS)
                for rollout in table[i]:
                    twin.uses[rollout.rollout_id].append(version)
                    trains = twin.trained(rollout.rollout_id)[-1] > 0
                    twin.decide(rollout.rollout_id, Fate.TRAINED if trains else Fate.MASKED)
            draws.append((chosen, version))
            if rng.random() < 0.3:  # nobody acknowledged it
                chosen, at = draws.pop()
                for i in chosen:
                    selection.refunded(table[i], at, STALENESS)
                    for rollout in table[i]:
                        twin.refund(rollout.rollout_id)
            else:
                for i in chosen:
                    if rng.random() < 0.7:
                        del table[i]
        elif table and what < 0.8:
            gone = int(rng.choice(list(table)))
            fate = Fate.OVERDUE if rng.random() < 0.5 else Fate.CAPACITY
            selection.left(table.pop(gone), fate)
            for rollout in twin.rollouts.values():
                if rollout.group_id == gone and rollout.state is RolloutState.SCORED:
                    twin.decide(rollout.rollout_id, fate)
        version += int(rng.random() < 0.5)
        if step % 20 == 19:
            state = selection.state_dict()
            selection = make()
            selection.load_state_dict(state)
        if step % 10 == 9:
            row = selection.take_row(version)
            json.dumps(row)
            assert all(find_metric(name) for name in row), row
            twin.check(row)
            for kind in KINDS:
                for unit in ("rollouts", "tokens"):
                    name = f"selection/{kind}_{unit}"
                    since[name] += row[name]
                    assert since[name] == sum(row.get(f"{name}/by_length", [])), name
        valid, problem = selection.check_valid()
        assert valid, problem
    assert {Fate.TRAINED, Fate.EXPIRED, Fate.FAILED, Fate.OVERDUE} <= set(twin.fates.values())
    assert any(twin.tokens(Fate.MASKED).values())


def test_length_bins_are_half_octaves() -> None:
    assert LENGTH_EDGES[:8] == [1, 2, 3, 4, 6, 8, 12, 16] and LENGTH_EDGES[-1] == 2**21


def stream(selection: Selection, rng: np.random.Generator, bias: str) -> list[int]:
    """300 groups of 8, lengths lognormal within and between prompts, and a row for every 5 of
    them; returns the versions at which a row called the window biased.

    Some groups have no variance, some go overdue; `bias` says which rollouts leave besides: a
    quarter by chance, those that were longest (deadline), or those of the highest level.
    """
    at = []
    for i in range(300):
        level = 1 + int(rng.integers(3))
        sizes = np.exp(rng.normal(3.0, 0.5) + rng.normal(0, 0.5, 8)).astype(int) + 1
        equal = rng.random() < 0.3
        late = np.argsort(sizes)[-2:] if bias == "long" else rng.permutation(8)[:2]
        group, closed = make_group(
            i, [[0] * int(n) for n in sizes], totals=[1.0] * 8 if equal else None, level=level,
            expired=() if bias == "hard" else tuple(int(j) for j in late),
        )  # fmt: skip
        selection.closed(group, closed)
        if not equal:
            if rng.random() < (0.15 if bias != "hard" else 0.9 * (level == 3)):
                selection.left(closed.rollouts, Fate.OVERDUE)
            else:
                selection.drawn(closed.rollouts, 0, STALENESS)
        if i % 5 == 4 and selection.take_row(i)["selection/biased"]:
            at.append(i)
    return at


def test_the_warning_fires_on_a_biased_stream_and_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for bias, by, culprit in (("long", "length", "expired"), ("hard", "level", "dropped_overdue")):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            at = stream(Selection(window=1024, ks_warn=0.1), np.random.default_rng(1), bias)
        assert at and at[0] >= MIN_GROUPS and len(at) > 30, (bias, at[:1])
        warnings = [record.getMessage() for record in caplog.records]
        assert 2 <= len(warnings) <= 1 + 300 // WARN_EVERY
        assert f"generated by {by}" in warnings[0] and "selection_ks_warn=0.1" in warnings[0]
        assert f"left out: {culprit}" in warnings[-1]


def test_an_unbiased_stream_does_not_warn() -> None:
    """Even where the threshold is next to nothing, so that only `noise` is in the way: three
    distances at 1e-3 each are wrong in 3 of 1,000 rows at most. Overlapping windows make alarms
    come in runs, hence a limit of 2 % for the streams here. (They have none: rollouts of a group
    are less alike than the bound supposes.)"""
    alarms = 0
    for seed in range(5):
        alarms += len(stream(Selection(window=512, ks_warn=1e-6), np.random.default_rng(seed), ""))
    assert alarms <= 6  # of 300 rows
    assert stream(Selection(window=1024, ks_warn=0.1), np.random.default_rng(99), "") == []


def test_a_short_run_is_not_judged() -> None:
    selection = Selection(ks_warn=0.01)
    for i in range(MIN_GROUPS - 1):
        group, closed = make_group(i, [[0] * (1 + i), [0]], expired=(0,))
        selection.closed(group, closed)
        selection.drawn(closed.rollouts, 0, STALENESS)
    row = selection.take_row(0)
    assert row["selection/ks_length/with_variance"] > 0.4 and not row["selection/biased"]


@pytest.mark.parametrize("overdue", ["mask", "drop"])
def test_a_simulated_run_accounts_for_every_token(overdue: str) -> None:
    """Fates against what the simulated learner was sent and what the actors sampled."""
    world = World(
        config=make_config(
            buffer={"group_size": 3, "min_rollouts": 2, "group_deadline_versions": 3},
            learner={"groups_per_update": 3},
            actors={"max_concurrent": 4, "rollout_token_budget": 6, "segment_tokens": 3},
            staleness={"eta": 2, "overdue": overdue},
        ),
        seed=5,
        lengths=lambda rng: int(np.ceil(rng.lognormal(2.2, 0.9))),
        zero_variance=0.2,
        failures=0.05,
        turbulence=0.02,
    )
    world.run(40)
    selection = world.core.stats.selection
    valid, problem = selection.check_valid()
    assert valid, problem
    row = selection.take_row(world.version)
    total = {kind: sum(row.get(f"selection/{kind}_tokens/by_length", [])) for kind in KINDS}
    count = {kind: sum(row.get(f"selection/{kind}_rollouts/by_length", [])) for kind in KINDS}
    assert total[Fate.TRAINED] == sum(int(batch.mask.sum()) for batch in world.batches)
    drawn = sum(batch.num_tokens for batch in world.batches)
    assert total[Fate.TRAINED] + total[Fate.MASKED] == drawn
    assert count[Fate.TRAINED] + count[Fate.MASKED] == sum(b.num_rollouts for b in world.batches)
    members = {len(group.rollouts) for group in world.closed}
    assert count["generated"] >= sum(len(group.rollouts) for group in world.closed) and members
    zero = [r for g in world.closed if g.zero_variance for r in g.rollouts]
    assert count[Fate.ZERO_VARIANCE] == len(zero)
    assert total[Fate.ZERO_VARIANCE] == sum(rollout.num_tokens for rollout in zero)
    assert count[Fate.EXPIRED] and count[Fate.FAILED]
    assert total[Fate.MASKED if overdue == "mask" else Fate.OVERDUE]
    for _, written in world.rows:
        assert all(find_metric(name) for name in written), written
