"""Each cross-field rule as a table: what passes, what is refused, and with which words."""

from typing import Any

import pytest

from async_r1.config import Config
from async_r1.errors import ConfigError
from async_r1.rules import check, check_sft
from async_r1.schema import build

LONG = {
    "task": {"max_new_tokens": 8192},
    "model": {"path": "m", "max_length": 9000},
    "learner": {"micro_batch_tokens": 9000},
}
MODEL = {"path": "some/model"}
SYNC = {"mode": "sync", "staleness": {"eta": 0}}
PHASES: dict[str, Any] = {"phases": [{"updates": 3, "styles": {"careful": 1.0}}]}


def config(values: dict[str, Any], **more: Any) -> Config:
    """Sections of `more` are merged into those of `values`."""
    merged: dict[str, Any] = {"model": MODEL, **values}
    for key, value in more.items():
        merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
    return build(Config, merged)


@pytest.mark.parametrize(
    "values",
    [
        {},
        SYNC,
        {"staleness": {"eta": 0}},  # asynchronous roles, on-policy
        {**SYNC, "staleness": {"eta": 0, "force": 3}},
        {"model": {"path": "m", "max_length": 257}},
        {"buffer": {"min_rollouts": 8}},
        {"buffer": {"max_size": 32}},
        {"buffer": {"samples_per_insert": 2.0, "max_times_sampled": 2}},
        {"buffer": {"sampler": "lifo", "remover": "lowest_priority", "item": "rollout"}},
        {"buffer": {"min_size": 40, "max_size": 40}, "learner": {"groups_per_update": 8}},
        {"buffer": {"sampler": "uniform", "max_times_sampled": 4, "samples_per_insert": 4.0}},
        {"objective": {"name": "grpo", "kl": 0.0, "clip_high": 0.28}},
        {"objective": {"name": "dppo", "drift": 0.0}},
        {"actors": {"in_process": False, "engine": {"tensor_parallel_size": 2}}},
        {"actors": {"engine": {"max_num_seqs": 8, "logprobs_mode": "processed_logprobs"}}},
        {"actors": {"engine": {"enable_prefix_caching": True}}},
        {"learner": {"deepspeed": {"zero_optimization": {"overlap_comm": True}}}},
        {"learner": {"deepspeed": {"bf16": {"bf16_master_weights_and_grads": False}}}},
        {"run": {"buffer_address": "tcp://node-1:5555"}},
        {"curriculum": {"kimi_curriculum": {"windows": [{"version": 3}]}}},
    ],
    ids=str,
)
def test_these_can_be_launched(values: dict[str, Any]) -> None:
    check(config(values))


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"model": {}}, "model.path must name a model, got ''"),
        ({"model": {"init": "nano"}}, "model.init=nano is for async_r1 sft"),
        (
            {"model": {**MODEL, "tie_embeddings": True}},
            "model.tie_embeddings=true needs model.init",
        ),
        ({"model": {**MODEL, "dtype": "float16"}}, "model.dtype must be float32 or bfloat16"),
        ({"mode": "sync"}, "mode=sync needs staleness.eta=0, got 4"),
        ({"staleness": {"force": 0}}, "staleness.force=0 needs mode=sync"),
        ({"task": {"max_new_tokens": 512}}, "task.max_new_tokens must be < model.max_length=512"),
        (
            {"learner": {"micro_batch_tokens": 511}},
            "learner.micro_batch_tokens must be >= model.max_length=512",
        ),
        (
            {"reward": {"accuracy": 0, "format": 0}},
            "all weights of reward are 0 (accuracy, format, language",
        ),
        ({"buffer": {"group_size": 1, "min_rollouts": 1}}, "buffer.group_size must be >= 2"),
        ({"buffer": {"min_rollouts": 9}}, "buffer.min_rollouts must be <= buffer.group_size=8"),
        ({"curriculum": {"screen": 1}}, "curriculum.screen must be 0, or >= 2 and <= buffer.gro"),
        ({"curriculum": {"screen": 9}}, "curriculum.screen must be 0, or >= 2 and <= buffer.gro"),
        ({"curriculum": {"screen": 4}}, "curriculum.screen=4 needs buffer.refill_max >= 1, got 0"),
        (
            {
                "curriculum": {"screen": 4},
                "buffer": {"refill_max": 8, "keep_zero_variance": True},
            },
            "curriculum.screen=4 needs buffer.keep_zero_variance=false",
        ),
        (
            {
                "mode": "sync",
                "staleness": {"eta": 0},
                "buffer": {"max_size": 63},
                "learner": {"updates_per_publish": 2},
            },
            "buffer.max_size must be >= learner.groups_per_update * learner.updates_per_publish=64",
        ),
        (
            {"actors": {"credit_bytes": 65536, "segment_tokens": 8000}, **LONG},
            "actors.credit_bytes must be >= 9 * actors.segment_tokens + 4 * (model.max_length - ",
        ),
        ({"buffer": {"max_size": 31}}, "buffer.max_size must be >= learner.groups_per_update=32"),
        (
            {"buffer": {"samples_per_insert": 2.0}},
            "buffer.samples_per_insert must be <= buffer.max_times_sampled=1, got 2",
        ),
        (
            {
                "buffer": {"samples_per_insert": 3.0, "max_times_sampled": 4},
                "staleness": {"eta": 1},
            },
            "buffer.samples_per_insert must be <= staleness.eta * "
            "learner.updates_per_publish + 1=2, got 3",
        ),
        (
            {"buffer": {"min_size": 41}, "learner": {"groups_per_update": 8}},
            "buffer.min_size must be <= (staleness.eta + 1) * learner.updates_per_publish * "
            "learner.groups_per_update / buffer.samples_per_insert=40, got 41",
        ),
        (
            {"buffer": {"item": "rollout"}, "objective": {"advantage_norm": "group"}},
            "objective.advantage_norm=group needs buffer.item=group",
        ),
        (
            {"buffer": {"item": "rollout"}, "objective": {"aggregation": "prompt"}},
            "objective.aggregation=prompt needs buffer.item=group",
        ),
        (
            {"buffer": {"priority": {"factors": []}}},
            "buffer.priority.factors must name a factor, got []",
        ),
        (
            {"buffer": {"priority": {"alpha": 0.5}}},
            "buffer.priority has no effect with buffer.sampler=fifo and buffer.remover=fifo",
        ),
        (
            {"learner": {"ranks": 17, "groups_per_update": 2}},
            "learner.ranks must be <= learner.groups_per_update * buffer.group_size=16, got 17",
        ),
        ({"learner": {"betas": [0.9]}}, "learner.betas must be two numbers"),
        ({"learner": {"betas": [0.9, 1.0]}}, "learner.betas must be two numbers"),
        (
            {"learner": {"warmup_updates": 100}},
            "learner.warmup_updates must be < learner.num_updates=100",
        ),
        ({"objective": {"name": "grpo", "drift": 0.1}}, "objective.drift=0.1 has no effect"),
        ({"objective": {"clip_low": 0.1}}, "objective.clip_low=0.1 has no effect"),
        ({"weights": {"backend": "ipc"}}, "weights.backend=ipc needs run.colocate=true"),
        (
            {"run": {"colocate": True}, "weights": {"backend": "nccl"}},
            "run.colocate=true needs weights.backend=ipc or gloo",
        ),
        (
            {"run": {"colocate": True}, "learner": {"ranks": 2}},
            "run.colocate=true needs learner.ranks=1 and one GPU an engine",
        ),
        ({"run": {"plan_for": "8xH100"}}, "run.plan_for=8xH100 is for dry_run=true"),
        (
            {"model": {"path": "m", "rope_scaling": {"rope_type": "yarn"}}},
            "model.rope_scaling must have rope_type and a factor >= 1, got {'rope_type': 'yarn'}",
        ),
        ({"model": {"init": "random"}}, "model.init=random needs model.shape, got {}"),
        ({"weights": {"timeout_s": 120.0}}, "actors.dead_after_s must be > weights.timeout_s=120"),
        ({"run": {"buffer_address": "ipc:///tmp/x"}}, "run.buffer_address must be tcp://host:port"),
        ({"run": {"weights_address": "tcp://host"}}, "run.weights_address must be tcp://host:port"),
    ],
    ids=str,
)
def test_these_cannot_be_launched(values: dict[str, Any], error: str) -> None:
    refused(values, error)


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"actors": {"in_process": False}}, "mode=sync needs actors.in_process=true"),
        ({"buffer": {"group_deadline_s": 1.0}}, "mode=sync counts deadlines in versions"),
        ({"buffer": {"max_times_sampled": 2}}, "mode=sync trains each group once"),
        ({"buffer": {"max_times_sampled": 2}}, "mode=sync trains each group once"),
        (
            {"actors": {"engine": {"enable_prefix_caching": True}}},
            "actors.engine.enable_prefix_caching must be false with mode=sync",
        ),
    ],
    ids=str,
)
def test_these_are_refused_in_sync_mode_only(more: dict[str, Any], error: str) -> None:
    refused(SYNC, error, **more)
    in_async = config({}, **more)
    check(in_async)


@pytest.mark.parametrize(
    "engine",
    [
        {"top_p": 0.9},
        {"top_k": 50},
        {"min_p": 0.1},
        {"repetition_penalty": 1.1},
        {"override_generation_config": {"top_p": 0.9}},
        {"override_generation_config": {"nested": {"presence_penalty": 1.0}}},
        {"logits_processors": ["some.module"]},
    ],
    ids=str,
)
def test_nothing_but_temperature_may_shape_the_sampling(engine: dict[str, Any]) -> None:
    refused({"actors": {"engine": engine}}, "actors.engine.")
    refused({"actors": {"engine": engine}}, "the whole distribution that the learner trains")


@pytest.mark.parametrize(
    ("section", "key", "value", "error"),
    [
        ("engine", "model", "other", "actors.engine.model is not free: it is set by model.path"),
        ("engine", "dtype", "half", "it is set by model.dtype"),
        ("engine", "seed", 1, "it is set by seed"),
        ("engine", "max_model_len", 9, "it is set by model.max_length"),
        ("engine", "weight_transfer_config", {"backend": "nccl"}, "it is set by weights.backend"),
        ("engine", "logprobs_mode", "raw_logprobs", "must be processed_logprobs"),
        ("engine", "tensor_parallel_size", 2, "needs actors.in_process=false"),
        ("deepspeed", "train_batch_size", 8, "it is set by learner.groups_per_update"),
        ("deepspeed", "zero_optimization", {"stage": 2}, "it is set by learner.zero_stage"),
        ("deepspeed", "optimizer", {"type": "Adam"}, "it is set by learner.lr"),
        ("deepspeed", "bf16", {"enabled": True}, "it is set by model.dtype"),
    ],
)
def test_what_an_option_of_ours_sets_does_not_pass_through(
    section: str, key: str, value: Any, error: str
) -> None:
    owner = {"engine": "actors", "deepspeed": "learner"}[section]
    refused({owner: {section: {key: value}}}, error)


@pytest.mark.parametrize(
    "model", [{"init": "nano"}, {"init": "nano", "tie_embeddings": True}, {"path": "some/model"}]
)
def test_these_can_be_fine_tuned(model: dict[str, Any]) -> None:
    check_sft(build(Config, {"model": model, "sft": PHASES}))


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"model": {"init": "nano"}}, "sft.phases must have at least one phase, got []"),
        ({"sft": PHASES}, "sft starts from model.path or from model.init=nano, got neither"),
        ({"sft": PHASES, "model": {"path": "m", "init": "nano"}}, "got both: 'm' and 'nano'"),
        ({"sft": PHASES, "model": {"path": "m", "tie_embeddings": True}}, "needs model.init"),
    ],
    ids=str,
)
def test_these_cannot_be_fine_tuned(values: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_sft(build(Config, values))
    assert error in str(raised.value)


def refused(values: dict[str, Any], error: str, **more: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        check(config(values, **more))
    assert error in str(raised.value)
    assert "\n" not in str(raised.value)
