"""Hugging Face checkpoints that transformers and vLLM load as they are.

    RUN/checkpoints/version_000100/hf/{model.safetensors,config.json,tokenizer files}
    RUN/checkpoints/version_000100/COMPLETE

A directory with that name is always whole: it is made under another one and renamed.
"""

import json
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

_COPIED = ("*.json", "*.txt", "*.model", "*.jinja")
_NOT_COPIED = ("*.index.json", "coldstart.json")


def save_checkpoint(
    directory: Path, weights: Iterable[tuple[str, Tensor]], source: Path, *, version: int
) -> Path:
    """Write `directory`/{hf/,COMPLETE}; returns the hf directory. One that exists is kept.

    Args:
        weights: (Hugging Face name, tensor); a tied weight once.
        source: directory of the model that training started from, for config and tokenizer.
    """
    hf = directory / "hf"
    if directory.exists():
        return hf
    temporary = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "hf").mkdir(parents=True)
    write_hf(temporary / "hf", weights, source)
    facts = {"policy_version": version, "saved_at": time.time()}
    (temporary / "COMPLETE").write_text(json.dumps(facts) + "\n")
    temporary.replace(directory)
    return hf


def write_hf(directory: Path, weights: Iterable[tuple[str, Tensor]], source: Path) -> None:
    """Write a model directory in place."""
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in weights}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    skipped = {path for pattern in _NOT_COPIED for path in source.glob(pattern)}
    for pattern in _COPIED:
        for path in source.glob(pattern):
            if path not in skipped:
                shutil.copyfile(path, directory / path.name)
