"""A model directory is refused before anything starts when a part of it does not fit another."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from async_r1.config_dir import config_dir
from async_r1.config_task import TaskConfig
from async_r1.errors import ConfigError
from async_r1.model_files import check_model, read_shapes

PLAIN = TaskConfig()
NANO = config_dir() / "checkpoints" / "nano"
Change = Callable[[Path], object]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(NANO, tmp_path / "model"))


def edit(name: str, **values: Any) -> Change:
    """None removes a key."""

    def change(model: Path) -> None:
        path = model / name
        merged = {**json.loads(path.read_text()), **values}
        kept = {key: value for key, value in merged.items() if value is not None}
        path.write_text(json.dumps(kept))

    return change


def remove(name: str) -> Change:
    return lambda model: (model / name).unlink()


def weights(change: Callable[[dict[str, Any]], object]) -> Change:
    def apply(model: Path) -> None:
        tensors = load_file(model / "model.safetensors")
        change(tensors)
        save_file(tensors, model / "model.safetensors")

    return apply


def add_token(model: Path) -> None:
    path = model / "tokenizer.json"
    value = json.loads(path.read_text())
    added = {**value["added_tokens"][0], "id": 128, "content": "<more>"}
    value["added_tokens"].append(added)
    path.write_text(json.dumps(value))


def no_stop(model: Path) -> None:
    edit("config.json", eos_token_id=None)(model)
    edit("generation_config.json", eos_token_id=None)(model)


def cut(model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def sharded_with_one_missing(model: Path) -> None:
    names = {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def as_lfs_pointer(model: Path) -> None:
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")


@pytest.mark.parametrize(
    "change",
    [
        lambda model: None,
        edit("config.json", vocab_size=128),
        remove("generation_config.json"),
        edit("config.json", eos_token_id=None),  # generation_config.json names it
    ],
)
def test_these_load(model: Path, change: Change) -> None:
    change(model)
    check_model(str(model), PLAIN)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (add_token, "largest token id is 128, the model's vocab_size 128"),
        (
            edit("config.json", vocab_size=100),
            "largest token id is 127, the model's vocab_size 100",
        ),
        (remove("tokenizer.json"), "has no tokenizer"),
        (lambda model: (model / "tokenizer.json").write_text("{}"), "is not a tokenizer"),
        (
            edit("config.json", architectures=["BertForMaskedLM"]),
            "must be a causal language model (...ForCausalLM), {model} has architectures "
            "['BertForMaskedLM']",
        ),
        (edit("config.json", architectures=None), "has architectures []"),
        (remove("model.safetensors"), "has no weights"),
        (sharded_with_one_missing, "lacks weights: model-00002-of-00002.safetensors"),
        (
            edit("config.json", hidden_size=64),
            "of another architecture than its config.json: lm_head.weight is 128 x 128, vocab_size "
            "x hidden_size 128 x 64",
        ),
        (edit("config.json", vocab_size=256), "is 128 x 128, vocab_size x hidden_size 256 x 128"),
        (
            weights(lambda tensors: (tensors.clear(), tensors.update(a=np.zeros((3, 4))))),
            "none is an embedding of vocab_size x hidden_size 128 x 128",
        ),
        (cut, "is cut: it should have"),
        (as_lfs_pointer, "is not a safetensors file"),
        (no_stop, "names no end-of-sequence token"),
        (lambda model: (model / "config.json").write_text("{"), "cannot read {model}/config.json"),
    ],
)
def test_these_do_not_and_the_message_says_why(model: Path, change: Change, error: str) -> None:
    change(model)
    with pytest.raises(ConfigError, match=re.escape(error.format(model=model))) as caught:
        check_model(str(model), PLAIN)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["chat_template.jinja", "tokenizer_config.json", "by name"])
def test_chat_templates_are_found_where_transformers_finds_them(model: Path, where: str) -> None:
    chat = TaskConfig(template="chat", template_options={"enable_thinking": True})
    with pytest.raises(ConfigError, match="needs a tokenizer with a chat template"):
        check_model(str(model), chat)
    source = "{{ messages[0].content }}{{ enable_thinking }}"
    if where == "chat_template.jinja":
        (model / where).write_text(source)
    else:
        named = [{"name": "default", "template": source}, {"name": "tool_use", "template": "x"}]
        edit("tokenizer_config.json", chat_template=source if where[0] == "t" else named)(model)
    check_model(str(model), chat)
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(model).get_chat_template() == source
    with pytest.raises(ConfigError, match="did you mean enable_thinking"):
        check_model(str(model), TaskConfig(template="chat", template_options={"enable_thnk": 1}))


def test_a_name_of_a_hub_is_left_to_the_roles() -> None:
    check_model("Qwen/Qwen3-0.6B", PLAIN)


def test_planning_needs_no_more_than_a_config(model: Path) -> None:
    for path in model.iterdir():
        if path.name != "config.json":
            path.unlink()
    check_model(str(model), PLAIN, complete=False)
    edit("config.json", architectures=["BertModel"])(model)
    with pytest.raises(ConfigError, match="causal"):
        check_model(str(model), PLAIN, complete=False)


def test_headers_are_those_of_the_library() -> None:
    path = NANO / "model.safetensors"
    assert read_shapes(path) == {name: list(t.shape) for name, t in load_file(path).items()}
