"""Keys that may not pass through `actors.engine` to vLLM or `learner.deepspeed` to DeepSpeed.

Some are set by an option of ours, and two sources would disagree; some change the distribution
that is sampled from, which the learner would have to know. All others pass; the actor checks their
spelling against the installed vLLM.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from async_r1.config import Config

# vLLM engine argument: the option that sets it.
ENGINE_OWNED = {
    "model": "model.path",
    "tokenizer": "model.path",
    "dtype": "model.dtype",
    "max_model_len": "model.max_length",
    "seed": "seed",
    "weight_transfer_config": "weights.backend",
    "skip_tokenizer_init": "nothing: the actor passes token ids in and out, always",
}
# What would make the recorded log-probs those of another distribution than the learner's.
SAMPLING = (
    *("top_p", "top_k", "min_p"),
    *("repetition_penalty", "presence_penalty", "frequency_penalty"),
    *("logit_bias", "logits_processors", "bad_words"),
)
# DeepSpeed key (dotted): the option that sets it.
DEEPSPEED_OWNED = {
    "train_batch_size": "learner.groups_per_update",
    "train_micro_batch_size_per_gpu": "learner.micro_batch_tokens",
    "gradient_accumulation_steps": "learner.micro_batch_tokens",
    "gradient_clipping": "learner.grad_clip",
    "optimizer": "learner.lr, learner.betas, learner.eps and learner.weight_decay",
    "scheduler": "learner.lr_decay and learner.warmup_updates",
    "zero_optimization.stage": "learner.zero_stage",
    "bf16.enabled": "model.dtype",
    "fp16.enabled": "model.dtype",
}


def engine_conflicts(config: Config) -> Iterator[str]:
    """What is wrong with `actors.engine`, a line each."""
    engine = config.actors.engine
    for path, _ in _walk(engine):
        leaf = path.rpartition(".")[2]
        if leaf in SAMPLING:
            yield (
                f"actors.engine.{path} is refused: rollouts must be sampled from the whole "
                f"distribution that the learner trains; actors.temperature alone shapes it"
            )
        if path in ENGINE_OWNED:
            yield f"actors.engine.{path} is not free: it is set by {ENGINE_OWNED[path]}"
    if engine.get("logprobs_mode", "processed_logprobs") != "processed_logprobs":
        yield (
            f"actors.engine.logprobs_mode must be processed_logprobs, got "
            f"{engine['logprobs_mode']!r}: behaviour log-probs are those of the distribution "
            f"sampled from"
        )
    if config.mode == "sync" and engine.get("enable_prefix_caching"):
        yield "actors.engine.enable_prefix_caching must be false with mode=sync: hits vary"
    sharded = [
        f"actors.engine.{name}={engine[name]}"
        for name in ("tensor_parallel_size", "pipeline_parallel_size")
        if engine.get(name, 1) != 1
    ]
    if config.actors.in_process and sharded:
        yield f"{sharded[0]} needs actors.in_process=false: its workers are processes"


def deepspeed_conflicts(config: Config) -> Iterator[str]:
    """What is wrong with `learner.deepspeed`, a line each."""
    for path, _ in _walk(config.learner.deepspeed):
        if path in DEEPSPEED_OWNED:
            yield f"learner.deepspeed.{path} is not free: it is set by {DEEPSPEED_OWNED[path]}"


def _walk(values: Mapping[str, Any], parent: str = "") -> Iterator[tuple[str, Any]]:
    """Every key at any depth, dotted, a mapping before what is in it."""
    for key, value in values.items():
        path = f"{parent}.{key}" if parent else str(key)
        yield path, value
        if isinstance(value, Mapping):
            yield from _walk(value, path)
