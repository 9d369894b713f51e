"""The sizes of a decoder that memory depends on, read without loading a model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from async_r1.config import Config
from async_r1.rope_scaling import max_positions, scaled


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The sizes of a decoder that memory depends on."""

    num_parameters: int
    num_layers: int
    hidden_size: int
    kv_size: int  # KV heads x head size
    vocab_size: int
    max_positions: int = 0  # that its position encoding gives it; 0: not said


def shape_of(values: Mapping[str, Any]) -> ModelShape | None:
    """From the values of a config.json; None if they are of no known form.

    Counts embeddings, attention, gated MLP and norms, as Llama and Qwen have them. For a mixture
    of experts all experts count.
    """
    try:
        hidden, layers = int(values["hidden_size"]), int(values["num_hidden_layers"])
        vocab, heads = int(values["vocab_size"]), int(values["num_attention_heads"])
        kv_heads = int(values.get("num_key_value_heads") or heads)
        head = int(values.get("head_dim") or hidden // heads)
        experts = int(values.get("num_experts") or values.get("num_local_experts") or 1)
        wide = int(values.get("moe_intermediate_size") or values["intermediate_size"])
        positions = max_positions(values)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    attention = 2 * hidden * head * (heads + kv_heads)
    if str(values.get("model_type", "")).startswith("qwen3"):
        attention += 2 * head  # norms of queries and keys
    layer = attention + 3 * hidden * wide * experts + 2 * hidden
    embeddings = vocab * hidden * (1 if values.get("tie_word_embeddings") else 2)
    return ModelShape(
        num_parameters=embeddings + layers * layer + hidden,
        num_layers=layers,
        hidden_size=hidden,
        kv_size=kv_heads * head,
        vocab_size=vocab,
        max_positions=positions,
    )


def model_shape(config: Config) -> tuple[ModelShape | None, str]:
    """The shape of the policy, and where it is from: a file, or "model.shape".

    config.json counts where it is at hand: in a local directory, or in the cache of the Hugging
    Face hub; nothing is downloaded. `model.shape`, which presets have, stands in for it.
    """
    if config.model.init != "random":
        for path in _config_files(config.model.path):
            values = _read(path)
            if values is not None:
                return shape_of(scaled(values, config.model.rope_scaling)), str(path)
    values = scaled(config.model.shape, config.model.rope_scaling)
    return (shape_of(values) if config.model.shape else None), "model.shape"


def _config_files(path: str) -> list[Path]:
    local = Path(path) / "config.json"
    if not path or local.is_file():
        return [local] if path else []
    if path.startswith(("/", ".")):
        return []
    try:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(path, "config.json")
    except (ImportError, ValueError):  # no hub library, or no name of its form
        return []
    return [Path(cached)] if isinstance(cached, str) else []


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None
