"""Rules that involve several options: what could never run, or would not be what it seems.

Each rule names the fields, what was given and a way out. What depends on the machine is in
`plan.py`; what depends on the installed vLLM is in the actor.
"""

import re
from collections.abc import Callable, Iterator

from async_r1 import rules_buffer, rules_offline
from async_r1.config import Config
from async_r1.errors import ConfigError
from async_r1.passthrough import deepspeed_conflicts, engine_conflicts
from async_r1.schema import walk
from async_r1.shares import num_shards

Rule = Callable[[Config], Iterator[str]]  # yields what is wrong

_ADDRESS = re.compile(r"tcp://[^:/\s]+:\d{1,5}")
_OF_OBJECTIVE = {
    "dppo": ("ratio_cap", "tv_low", "tv_high", "drift", "opsm"),
    "grpo": ("clip_low", "clip_high", "kl", "reference_refresh"),
}


def check(config: Config) -> None:
    """Refuse what `launch` could not do.

    Raises:
        ConfigError: one line for the first rule that is broken.
    """
    _apply(config, _TRAINING_RULES + _COMMON_RULES)


def check_sft(config: Config) -> None:
    """Refuse what `sft` could not do.

    Raises:
        ConfigError: one line for the first rule that is broken.
    """
    _apply(config, (_phases, *_COMMON_RULES))


def check_offline(config: Config) -> None:
    """Refuse what `eval` and `curate` could not do.

    Raises:
        ConfigError: one line for the first rule that is broken.
    """
    _apply(config, _OFFLINE_RULES)


def _apply(config: Config, rules: tuple[Rule, ...]) -> None:
    for rule in rules:
        for problem in rule(config):
            raise ConfigError(problem)


def _model(config: Config) -> Iterator[str]:
    if config.model.init == "nano":
        yield (
            f"model.init={config.model.init} is for async_r1 sft, which makes a model to launch "
            f"from; set model.init='' and model.path"
        )
    if not config.model.path and not config.model.init:
        yield "model.path must name a model, got ''; model=nano has one"


def _modes(config: Config) -> Iterator[str]:
    staleness, buffer = config.staleness, config.buffer
    if config.mode == "async":
        if staleness.force >= 0:
            yield (
                f"staleness.force={staleness.force} needs mode=sync, which samples each batch with "
                f"one version; add staleness=sync"
            )
        return
    if staleness.eta != 0:
        yield (
            f"mode=sync needs staleness.eta=0, got {staleness.eta}; add staleness.eta=0 "
            f"(staleness=sync sets both, unless a preset sets eta)"
        )
    if not config.actors.in_process:
        yield "mode=sync needs actors.in_process=true: an engine of its own is not deterministic"
    if buffer.group_deadline_s > 0:
        yield (
            f"mode=sync counts deadlines in versions: set buffer.group_deadline_versions, not "
            f"buffer.group_deadline_s={buffer.group_deadline_s:g}"
        )
    if buffer.samples_per_insert != 1 or buffer.max_times_sampled != 1:
        yield (
            f"mode=sync trains each group once: buffer.samples_per_insert and "
            f"buffer.max_times_sampled must be 1, got {buffer.samples_per_insert:g} and "
            f"{buffer.max_times_sampled}"
        )


def _lengths(config: Config) -> Iterator[str]:
    length = config.model.max_length
    if config.task.max_new_tokens >= length:
        yield (
            f"task.max_new_tokens must be < model.max_length={length}, got "
            f"{config.task.max_new_tokens}: the prompt needs room too"
        )
    if config.learner.micro_batch_tokens < length:
        yield (
            f"learner.micro_batch_tokens must be >= model.max_length={length}, got "
            f"{config.learner.micro_batch_tokens}: the longest rollout would exceed it"
        )


def _rewards(config: Config) -> Iterator[str]:
    reward = config.reward
    names = ("accuracy", "format", "language", "length", "overlong", "repetition")
    if not any(getattr(reward, name) for name in names):
        yield f"all weights of reward are 0 ({', '.join(names)}): no group could ever train"


def _objective(config: Config) -> Iterator[str]:
    """An option of another objective would be ignored without a word."""
    defaults = {name: default for name, _, default in walk(type(config))}
    for owner, names in _OF_OBJECTIVE.items():
        for name in names if owner != config.objective.name else ():
            given = getattr(config.objective, name)
            if given != defaults[f"objective.{name}"]:
                yield (
                    f"objective.{name}={given:g} has no effect with objective.name="
                    f"{config.objective.name}; leave it out, or choose objective={owner}"
                )


def _optimizer(config: Config) -> Iterator[str]:
    learner = config.learner
    betas = learner.betas
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        yield f"learner.betas must be two numbers >= 0 and < 1, got {betas}"
    if learner.warmup_updates >= learner.num_updates:
        yield (
            f"learner.warmup_updates must be < learner.num_updates={learner.num_updates}, got "
            f"{learner.warmup_updates}: the learning rate would never reach learner.lr"
        )


def _weights(config: Config) -> Iterator[str]:
    run, backend = config.run, config.weights.backend
    if backend == "ipc" and not run.colocate:
        yield "weights.backend=ipc needs run.colocate=true: it goes through memory of a shared GPU"
    if run.colocate and backend == "nccl":
        yield "run.colocate=true needs weights.backend=ipc or gloo: NCCL wants a GPU for each rank"
    if run.colocate and (config.learner.ranks > 1 or num_shards(config) > 1):
        yield (
            f"run.colocate=true needs learner.ranks=1 and one GPU an engine, got "
            f"learner.ranks={config.learner.ranks} and {num_shards(config)}"
        )
    if config.actors.dead_after_s <= config.weights.timeout_s:
        yield (
            f"actors.dead_after_s must be > weights.timeout_s={config.weights.timeout_s:g}, got "
            f"{config.actors.dead_after_s:g}: an actor is silent while it loads weights"
        )


def _machine(config: Config) -> Iterator[str]:
    if config.run.plan_for and not config.dry_run:
        yield f"run.plan_for={config.run.plan_for} is for dry_run=true: it makes no GPUs"
    if config.run.plan_for and config.run.device == "cpu":
        yield "run.plan_for has no effect with run.device=cpu; leave one of them out"


def _addresses(config: Config) -> Iterator[str]:
    for name in ("buffer_address", "weights_address"):
        address = getattr(config.run, name)
        if address and not _ADDRESS.fullmatch(address):
            yield f"run.{name} must be tcp://host:port, got {address!r}"


def _phases(config: Config) -> Iterator[str]:
    if not config.sft.phases:
        yield "sft.phases must have at least one phase, got []; experiment=nano_coldstart has two"
    if not config.model.init and not config.model.path:
        yield "sft starts from model.path or from model.init=nano, got neither"
    if config.model.init and config.model.path:
        yield (
            f"sft starts from model.path or from model.init, got both: {config.model.path!r} and "
            f"{config.model.init!r}; set one of them to ''"
        )


def _parameters(config: Config) -> Iterator[str]:
    if config.model.dtype == "float16":
        yield (
            "model.dtype must be float32 or bfloat16, got 'float16': it needs loss scaling, which "
            "would hide infinite gradients"
        )
    if config.model.tie_embeddings and config.model.init != "nano":
        yield (
            "model.tie_embeddings=true needs model.init=nano: an existing model says it itself, "
            "model.shape as tie_word_embeddings"
        )
    scaling = config.model.rope_scaling
    if scaling and not (scaling.get("rope_type") and _is_factor(scaling.get("factor"))):
        yield (
            f"model.rope_scaling must have rope_type and a factor >= 1, got {scaling}; "
            f"context=64k_yarn has both"
        )
    if config.model.init == "random" and not config.model.shape:
        yield "model.init=random needs model.shape, got {}; model=qwen3_0_6b has one"


def _is_factor(value: object) -> bool:
    return isinstance(value, int | float) and value >= 1


_TRAINING_RULES: tuple[Rule, ...] = (
    _model,
    _modes,
    rules_buffer.groups,
    rules_buffer.rates,
    rules_buffer.items,
    rules_buffer.curriculum,
    _lengths,
    _rewards,
    _objective,
    _weights,
    _addresses,
    engine_conflicts,
)
_COMMON_RULES: tuple[Rule, ...] = (
    _machine,
    _parameters,
    _optimizer,
    deepspeed_conflicts,
    rules_offline.template,
)
_OFFLINE_RULES: tuple[Rule, ...] = (
    _model,
    rules_offline.template,
    rules_offline.room,
    rules_offline.evaluate,
    _machine,
    engine_conflicts,
)
