"""A model with more positions than it has: what both sides read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from async_r1.config import Config
from async_r1.errors import ConfigError
from async_r1.model_shape import model_shape
from async_r1.rope_scaling import apply_rope_scaling, max_positions, scaled
from async_r1.run_dir import RunDir
from async_r1.schema import build

YARN = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32768}


def test_both_forms_of_config_json_become_what_transformers_reads() -> None:
    old = {"max_position_embeddings": 40960, "rope_theta": 1e6, "rope_scaling": None}
    new = {
        "max_position_embeddings": 40960,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    }
    for values in (old, new):
        before = json.dumps(values)
        result = scaled(values, YARN)
        assert json.dumps(values) == before
        assert result["max_position_embeddings"] == max_positions(result) == 65536
        from transformers import AutoConfig

        read = AutoConfig.for_model("qwen3", **result)
        assert read.rope_parameters == {**YARN, "rope_theta": 1e6}
        assert scaled(values, {}) == values


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, 0),
        ({"max_position_embeddings": 100}, 100),
        ({"max_position_embeddings": 100, "rope_scaling": {"type": "linear", "factor": 4}}, 400),
        (
            {"max_position_embeddings": 100, "rope_scaling": {"rope_type": "llama3", "factor": 8}},
            100,
        ),
    ],
)
def test_positions(values: dict[str, Any], expected: int) -> None:
    assert max_positions(values) == expected


def test_the_run_has_links_to_the_model_and_a_config_of_its_own(tmp_path: Path) -> None:
    model = tmp_path / "copy"
    model.mkdir()
    (model / "config.json").write_text('{"max_position_embeddings": 40960}')
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "tokenizer.json").write_text("{}")
    run_dir = RunDir.create(tmp_path / "run")
    config = build(Config, {"model": {"path": str(model), "rope_scaling": YARN}})
    path = Path(apply_rope_scaling(config, run_dir).model.path)
    assert path == run_dir.root / "model"
    assert json.loads((path / "config.json").read_text())["rope_scaling"] == YARN
    assert (path / "model.safetensors").resolve() == model / "model.safetensors"
    assert sorted(file.name for file in path.iterdir()) == [
        *("config.json", "model.safetensors", "tokenizer.json")
    ]
    assert (model / "config.json").read_text() == '{"max_position_embeddings": 40960}'
    plain = replace(config, model=replace(config.model, rope_scaling={}))
    assert apply_rope_scaling(plain, run_dir) is plain


def test_a_model_that_cannot_be_fetched_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def refuse(name: str) -> str:
        raise OSError(f"no network for {name}\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    config = build(Config, {"model": {"path": "Some/Name", "rope_scaling": YARN}})
    with pytest.raises(ConfigError, match="'Some/Name', which do not come: no network for Some/N"):
        apply_rope_scaling(config, RunDir.create(tmp_path / "run"))


def test_the_estimate_knows_of_it() -> None:
    dense = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "vocab_size": 100,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "max_position_embeddings": 40960,
    }
    for scaling, expected in (({}, 40960), (YARN, 65536)):
        values = {"path": "some/hub-name", "shape": dense, "rope_scaling": scaling}
        shape, _ = model_shape(build(Config, {"model": values}))
        assert shape is not None and shape.max_positions == expected
