"""Sizes read from a model's configuration, against the models themselves."""

import json
from pathlib import Path
from typing import Any

import pytest

from async_r1.compose import compose
from async_r1.config import Config
from async_r1.model_shape import ModelShape, model_shape, shape_of
from async_r1.plan import plan
from async_r1.schema import build

DENSE: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "vocab_size": 100,
    "num_attention_heads": 4,
    "intermediate_size": 256,
}


def shape_at(path: str, **model: Any) -> ModelShape | None:
    return model_shape(build(Config, {"model": {"path": path, **model}}))[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "millions"), [("qwen3_0_6b", 596.0), ("qwen3_1_7b", 1720.6), ("qwen3_8b", 8190.7)]
)
def test_presets_have_the_parameters_that_transformers_counts(preset: str, millions: float) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    values = compose([f"experiment={preset}"]).model.shape
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**values))
    shape = shape_of(values)
    assert shape is not None
    assert shape.num_parameters == model.num_parameters()
    assert shape.num_parameters / 1e6 == pytest.approx(millions, abs=0.1)
    assert model.config.tie_word_embeddings is (preset != "qwen3_8b")


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["qwen3", "llama"])
@pytest.mark.parametrize("tied", [False, True])
def test_parameters_are_counted_as_the_model_has_them(model_type: str, tied: bool) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    values = {
        **DENSE,
        "model_type": model_type,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "tie_word_embeddings": tied,
    }
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**values))
    shape = shape_of(values)
    assert shape is not None
    assert shape.num_parameters == model.num_parameters()
    assert shape.kv_size == 64 and shape.vocab_size == 100


@pytest.mark.parametrize("text", ["{}", "no json", "[]", '{"hidden_size": "wide"}'])
def test_an_unknown_shape_is_no_estimate(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    assert shape_at(str(tmp_path)) is None
    assert shape_at("some/hub-name") is None
    planned = plan(build(Config, {}), 2, shape=None)
    assert planned.roles[-1].memory_gib is None
    assert any("memory is unknown" in note for note in planned.notes)


def test_experts_all_count() -> None:
    shapes = [
        shape_of(values)
        for values in (DENSE, {**DENSE, "num_experts": 8, "moe_intermediate_size": 128})
    ]
    assert shapes[0] is not None and shapes[1] is not None
    more = shapes[1].num_parameters - shapes[0].num_parameters
    assert more == 2 * 3 * 64 * (8 * 128 - 256)


def test_config_json_counts_before_model_shape(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(DENSE))
    other = {**DENSE, "hidden_size": 128}
    here = shape_at(str(tmp_path), shape=other)
    assert here is not None and here.hidden_size == 64
    for model in ({"path": "some/hub-name"}, {"path": str(tmp_path), "init": "random"}):
        stated = model_shape(build(Config, {"model": {"shape": other, **model}}))
        assert stated[0] is not None and stated[0].hidden_size == 128
        assert stated[1] == "model.shape"


def test_a_model_in_the_cache_of_the_hub_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    file = tmp_path / "config.json"
    file.write_text(json.dumps(DENSE))
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda name, _: str(file) if name == "Some/Name" else None,
    )
    assert shape_at("Some/Name") == shape_of(DENSE)
    assert shape_at("Some/Other") is None
