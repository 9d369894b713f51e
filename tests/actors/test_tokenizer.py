"""What the launcher cannot see without the tokenizer's library, the actor refuses."""

import json
import re
import shutil
from pathlib import Path

import pytest

from actors.tokenizer import load_tokenizer
from async_r1.config import Config
from async_r1.errors import ConfigError
from async_r1.schema import build


def load(path: Path) -> tuple[object, list[int]]:
    return load_tokenizer(build(Config, {"model": {"path": str(path)}}))


def test_a_model_and_its_tokenizer(nano_dir: Path) -> None:
    tokenizer, stops = load(nano_dir)
    assert stops == [tokenizer.eos_token_id]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("file", "values", "error"),
    [
        ("config.json", {"vocab_size": 100}, "largest token id is 127, the model's vocab_size 100"),
        ("generation_config.json", {"eos_token_id": [1, 500]}, "token id is 500"),
    ],
)
def test_ids_beyond_the_model_are_named(
    nano_dir: Path, tmp_path: Path, file: str, values: dict[str, object], error: str
) -> None:
    path = Path(shutil.copytree(nano_dir, tmp_path / "model"))
    (path / file).write_text(json.dumps(json.loads((path / file).read_text()) | values))
    with pytest.raises(ConfigError, match=re.escape(error)):
        load(path)


def test_a_directory_that_does_not_load_is_one_line(nano_dir: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(nano_dir, tmp_path / "model"))
    (path / "config.json").unlink()
    with pytest.raises(ConfigError, match="does not load") as caught:
        load(path)
    assert "\n" not in str(caught.value)
