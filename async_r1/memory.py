"""How much memory each role will need: an estimate, before anything is loaded.

For a decoder with P parameters, L layers, hidden size h, vocabulary V and key/value width k (KV
heads x head size), in a dtype of b bytes, M learner ranks and ZeRO stage z:

    learner rank   weights      b P                  / M from z = 3
                   gradients    b P                  / M from z = 2
                   Adam         8 P, and 4 P of float32 weights if b < 4;  / M from z = 1
                   activations  17 b h L per token of a micro-batch (Korthikanti et al. 2022,
                                arXiv 2205.05198, eq. 1 without the attention matrix); with
                                gradient checkpointing b h (L + 17) instead
                   logits       3 x 4 V per token of logprob_chunk_tokens: logits, their
                                log-softmax, and its gradient
                   reference    b P for GRPO's KL
    actor          weights      b P / S,  S the GPUs that share the engine
                   KV cache     what actors.engine gives it, else 2 b L k per token of
                                max_concurrent rollouts at model.max_length, / S
    buffer         13 bytes per token of max_size groups, at half of model.max_length

Python and its libraries come on top of each: `RUNTIME_GIB`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from async_r1.config import Config

GIB = 2**30
RUNTIME_GIB = {"buffer": 0.05, "actor": 1.0, "learner": 0.6}  # resident, with the nano model
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The sizes of a decoder that memory depends on."""

    num_parameters: int
    num_layers: int
    hidden_size: int
    kv_size: int  # KV heads x head size
    vocab_size: int


def read_shape(path: str) -> ModelShape | None:
    """From config.json of a local model directory; None if there is none of a known form.

    Counts embeddings, attention, gated MLP and norms, as Llama and Qwen have them. For a mixture
    of experts all experts count.
    """
    try:
        values: dict[str, Any] = json.loads((Path(path) / "config.json").read_text())
        hidden, layers = int(values["hidden_size"]), int(values["num_hidden_layers"])
        vocab, heads = int(values["vocab_size"]), int(values["num_attention_heads"])
        kv_heads = int(values.get("num_key_value_heads") or heads)
        head = int(values.get("head_dim") or hidden // heads)
        experts = int(values.get("num_experts") or values.get("num_local_experts") or 1)
        wide = int(values.get("moe_intermediate_size") or values["intermediate_size"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    attention = 2 * hidden * head * (heads + kv_heads)
    layer = attention + 3 * hidden * wide * experts + 2 * hidden
    embeddings = vocab * hidden * (1 if values.get("tie_word_embeddings") else 2)
    return ModelShape(
        num_parameters=embeddings + layers * layer + hidden,
        num_layers=layers,
        hidden_size=hidden,
        kv_size=kv_heads * head,
        vocab_size=vocab,
    )


def learner_gib(config: Config, shape: ModelShape) -> float:
    """Memory of one learner rank."""
    learner, width = config.learner, _BYTES[config.model.dtype]
    parameters, ranks, stage = shape.num_parameters, learner.ranks, learner.zero_stage
    weights = width * parameters / (ranks if stage >= 3 else 1)
    gradients = width * parameters / (ranks if stage >= 2 else 1)
    adam = (8 if width == 4 else 12) * parameters / (ranks if stage >= 1 else 1)
    per_layer = 1 if learner.gradient_checkpointing else 17
    hidden = shape.hidden_size * (per_layer * shape.num_layers)
    hidden += 17 * shape.hidden_size if learner.gradient_checkpointing else 0
    activations = width * hidden * learner.micro_batch_tokens
    rows = min(learner.logprob_chunk_tokens, learner.micro_batch_tokens)
    logits = 3 * 4 * shape.vocab_size * rows
    has_reference = config.objective.name == "grpo" and config.objective.kl > 0
    reference = width * parameters if has_reference else 0
    total = weights + gradients + adam + activations + logits + reference
    return RUNTIME_GIB["learner"] + total / GIB


def actor_gib(config: Config, shape: ModelShape, num_shards: int = 1) -> float:
    """Memory of one actor; of each of its GPUs if `num_shards` share the engine."""
    width = _BYTES[config.model.dtype]
    weights = width * shape.num_parameters / num_shards
    cache = config.actors.engine.get("kv_cache_memory_bytes")
    if not isinstance(cache, int | float):
        tokens = config.actors.max_concurrent * config.model.max_length
        cache = 2 * width * shape.num_layers * shape.kv_size * tokens / num_shards
    return RUNTIME_GIB["actor"] + (weights + cache) / GIB


def buffer_gib(config: Config) -> float:
    """Memory of the buffer: a full table of rollouts of half the greatest length."""
    tokens = config.buffer.max_size * config.buffer.group_size * config.model.max_length / 2
    return RUNTIME_GIB["buffer"] + 13 * tokens / GIB
