"""An estimate of each role's memory, from the model's config.json and the run's sizes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from async_r1.config import Config

GIB = 1 << 30
_ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_ACTOR_BASE = int(1.0 * GIB)  # interpreter, torch and vLLM without a model
_LEARNER_BASE = int(0.7 * GIB)
_BUFFER_BASE = int(0.1 * GIB)


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes of one process; `known` is False when the model's shape could not be read here."""

    num_bytes: int
    known: bool = True

    @property
    def text(self) -> str:
        """In GiB."""
        return f"{self.num_bytes / GIB:.1f} GiB" if self.known else "unknown (model not local)"


@dataclass(frozen=True, slots=True)
class Estimates:
    """Per process of each kind."""

    buffer: MemoryEstimate
    actor: MemoryEstimate
    learner: MemoryEstimate


def estimate_memory(config: Config) -> Estimates:
    """Memory by formula; parameters N, ranks R, item size b of `model.dtype`.

    actor: N b + KV cache (`kv_cache_memory_bytes`, or a KV entry for every token in flight).
    learner: N (b weights, b gradients, 8 Adam), those that ZeRO shards divided by R, plus one
    micro-batch of activations (about 16 hidden-sized tensors a layer and token) and one chunk of
    float32 logits.
    buffer: 24 bytes for each token of the groups that admission lets in.
    """
    shape = _shape(Path(config.model.path))
    tokens = config.model.max_length * config.buffer.group_size
    groups = (config.staleness.eta + 1) * config.learner.groups_per_update
    buffer = MemoryEstimate(_BUFFER_BASE + 24 * tokens * groups)
    if shape is None:
        return Estimates(buffer, MemoryEstimate(0, False), MemoryEstimate(0, False))
    item = _ITEM_BYTES[config.model.dtype]
    parameters = num_parameters(shape)
    kv_entry = 2 * shape["num_hidden_layers"] * _kv_width(shape) * item
    in_flight = config.actors.max_concurrent * config.model.max_length
    cache = config.actors.engine.get("kv_cache_memory_bytes") or kv_entry * in_flight
    actor = _ACTOR_BASE + parameters * item + int(cache)
    stage, ranks = config.learner.zero_stage, config.learner.ranks
    weights = parameters * item / (ranks if stage >= 3 else 1)
    gradients = parameters * item / (ranks if stage >= 2 else 1)
    adam = parameters * 8 / (ranks if stage >= 1 else 1)
    width = 16 * shape["hidden_size"] * shape["num_hidden_layers"] * item
    activations = config.learner.micro_batch_tokens * width
    logits = config.learner.logprob_chunk_tokens * shape["vocab_size"] * 4 * 2
    learner = _LEARNER_BASE + int(weights + gradients + adam) + activations + logits
    return Estimates(buffer, MemoryEstimate(actor), MemoryEstimate(learner))


def num_parameters(shape: dict[str, Any]) -> int:
    """Parameters of a Qwen3- or Llama-shaped model, norms left out."""
    hidden, layers = shape["hidden_size"], shape["num_hidden_layers"]
    query = shape["num_attention_heads"] * _head_dim(shape)
    attention = hidden * (2 * query + 2 * _kv_width(shape))
    mlp = 3 * hidden * shape["intermediate_size"]
    embeddings = shape["vocab_size"] * hidden * (1 if shape.get("tie_word_embeddings") else 2)
    return int(layers * (attention + mlp) + embeddings)


def _shape(path: Path) -> dict[str, Any] | None:
    try:
        shape = json.loads((path / "config.json").read_text())
        num_parameters(shape)
    except (OSError, ValueError, KeyError):
        return None
    return dict(shape)


def _head_dim(shape: dict[str, Any]) -> int:
    return int(shape.get("head_dim") or shape["hidden_size"] // shape["num_attention_heads"])


def _kv_width(shape: dict[str, Any]) -> int:
    heads = shape.get("num_key_value_heads") or shape["num_attention_heads"]
    return int(heads) * _head_dim(shape)
