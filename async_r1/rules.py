"""Rules that involve several options: what would deadlock, or mislead without an error."""

from async_r1.config import Config
from async_r1.errors import ConfigError

_TRUNCATING = ("top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty")


def check(config: Config) -> None:
    """Refuse a configuration that cannot run, or whose results would not be what they seem.

    Raises:
        ConfigError: one line with the fields, the rule, and a way out.
    """
    for rule in (_modes, _groups, _lengths, _sampling, _weights, _sft):
        rule(config)


def _modes(config: Config) -> None:
    staleness = config.staleness
    if config.mode == "sync" and staleness.eta != 0:
        raise ConfigError(
            f"mode=sync is staleness.eta=0, got {staleness.eta}; use staleness=sync for both"
        )
    if staleness.force >= 0 and config.mode != "sync":
        raise ConfigError(
            f"staleness.force={staleness.force} needs mode=sync, where every version is sampled "
            f"whole; add staleness=sync"
        )
    if config.mode == "sync" and not config.actors.in_process:
        raise ConfigError("mode=sync needs actors.in_process=true: an engine of its own reorders")
    if config.mode == "sync" and config.buffer.group_deadline_s > 0:
        raise ConfigError(
            "mode=sync counts deadlines in versions: set buffer.group_deadline_versions instead "
            "of buffer.group_deadline_s"
        )


def _groups(config: Config) -> None:
    buffer, learner = config.buffer, config.learner
    if buffer.min_rollouts > buffer.group_size:
        raise ConfigError(
            f"buffer.min_rollouts must be <= buffer.group_size={buffer.group_size}, "
            f"got {buffer.min_rollouts}"
        )
    if buffer.group_size < 2 and config.objective.advantage_norm != "none":
        raise ConfigError("buffer.group_size must be >= 2: a group of one has no baseline")
    if buffer.max_size < learner.groups_per_update:
        raise ConfigError(
            f"buffer.max_size must be >= learner.groups_per_update={learner.groups_per_update}, "
            f"got {buffer.max_size}: no batch could ever be drawn"
        )
    if buffer.samples_per_insert > buffer.max_times_sampled:
        raise ConfigError(
            f"buffer.samples_per_insert must be <= buffer.max_times_sampled="
            f"{buffer.max_times_sampled}, got {buffer.samples_per_insert:g}"
        )
    if not config.task.levels:
        raise ConfigError("task.levels must name at least one level, got []")
    if config.task.reward.accuracy == 0 and config.task.reward.format == 0:
        raise ConfigError("task.reward.accuracy and task.reward.format must not both be 0")


def _lengths(config: Config) -> None:
    if config.task.max_new_tokens >= config.model.max_length:
        raise ConfigError(
            f"task.max_new_tokens must be < model.max_length={config.model.max_length}, "
            f"got {config.task.max_new_tokens}: the prompt needs room"
        )
    if config.learner.micro_batch_tokens < config.model.max_length:
        raise ConfigError(
            f"learner.micro_batch_tokens must be >= model.max_length={config.model.max_length}, "
            f"got {config.learner.micro_batch_tokens}: the longest rollout must fit"
        )


def _sampling(config: Config) -> None:
    for name in config.actors.engine:
        if name in _TRUNCATING or name == "override_generation_config":
            raise ConfigError(
                f"actors.engine.{name} is refused: the behaviour log-probs would not be those of "
                f"the policy that trains; only actors.temperature shapes sampling"
            )


def _weights(config: Config) -> None:
    if config.weights.backend == "ipc":
        raise ConfigError("weights.backend=ipc is not available yet; use nccl")


def _sft(config: Config) -> None:
    if config.model.path == "" and not config.model.init:
        raise ConfigError("model.path must name a model, got ''")
