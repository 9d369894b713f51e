"""A model of any architecture and size with random weights, over the nano model's characters.

    python -m learner.random_model --out DIR --seed 0 --dtype bfloat16 --shape JSON

What it samples means nothing: it is there to measure a run and to test a preset without the model.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from async_r1.errors import ConfigError
from learner.nano import nano_tokenizer


def build_random(path: str | Path, shape: Mapping[str, Any], *, seed: int, dtype: str) -> None:
    """Write a Hugging Face directory of a model with random weights, fixed by the seed.

    Args:
        shape: values of its config.json, `model_type` among them.
        dtype: in which the weights are drawn and written.

    Raises:
        ConfigError: `shape` makes no model, or the characters do not fit its vocabulary.
    """
    tokenizer = nano_tokenizer()
    values = dict(shape)
    model_type = values.pop("model_type", "")
    ends = {
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if values.get("vocab_size", len(tokenizer)) < len(tokenizer):
        raise ConfigError(
            f"model.shape.vocab_size must be >= {len(tokenizer)}, the characters of the tokenizer, "
            f"got {values['vocab_size']}"
        )
    try:
        config = AutoConfig.for_model(model_type, **{**values, **ends})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    except Exception as error:  # whatever an architecture of the library makes of wrong sizes
        raise ConfigError(
            f"model.shape makes no model: {type(error).__name__}: {str(error).splitlines()[0]}"
        ) from error
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m learner.random_model")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--shape", required=True, type=json.loads)
    args = parser.parse_args()
    try:
        build_random(args.out, args.shape, seed=args.seed, dtype=args.dtype)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
