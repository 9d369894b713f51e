"""The nano model: its size, its alphabet, and that transformers and vLLM load the same thing."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from async_r1.tasks.arithmetic_solutions import CAREFUL_PREFIX, careful
from async_r1.templates import render
from learner.nano import VOCAB_SIZE, build_nano

SOLUTION = render("plain", "2395 + 972 = ?") + careful([2395, 972])


@pytest.fixture(scope="module")
def tokenizer(nano_dir: Path):
    return AutoTokenizer.from_pretrained(nano_dir)


def test_under_a_million_parameters_in_float32(nano_dir: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(nano_dir)
    parameters = list(model.parameters())
    assert sum(p.numel() for p in parameters) < 1_000_000
    assert {p.dtype for p in parameters} == {torch.float32}
    assert model.config.model_type == "qwen3"


def test_weights_follow_from_the_seed_and_leave_the_global_one_alone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    for name, seed in [("a", 3), ("b", 3), ("c", 4)]:
        build_nano(tmp_path / name, seed=seed)
    assert torch.equal(torch.rand(1), expected)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c


def test_a_longer_context_changes_no_weight(nano_dir: Path, tmp_path: Path) -> None:
    build_nano(tmp_path, seed=1, max_length=4096)
    weights = [path / "model.safetensors" for path in (nano_dir, tmp_path)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    config = AutoModelForCausalLM.from_pretrained(tmp_path).config
    assert config.max_position_embeddings == 4096
    assert AutoTokenizer.from_pretrained(tmp_path).model_max_length == 4096


def test_tied_and_untied_embeddings(nano_dir: Path, nano_tied_dir: Path) -> None:
    for path, tied in [(nano_dir, False), (nano_tied_dir, True)]:
        model = AutoModelForCausalLM.from_pretrained(path)
        same = model.get_input_embeddings().weight is model.get_output_embeddings().weight
        assert same is tied


@pytest.mark.parametrize("skip_special_tokens", [False, True])
def test_text_survives_the_tokenizer(tokenizer, skip_special_tokens: bool) -> None:
    every_character = "\n" + "".join(map(chr, range(32, 127)))
    for text in (SOLUTION, every_character, render("r1_zero", "1+1"), "  a  \n\n b ", ""):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids, skip_special_tokens=skip_special_tokens) == text
        assert tokenizer.unk_token_id not in ids


def test_one_token_per_character_and_per_tag(tokenizer) -> None:
    assert len(tokenizer) == VOCAB_SIZE
    tags = ["<think>", "</think>", "<answer>", "</answer>"]
    assert all(len(tokenizer.encode(tag)) == 1 for tag in tags)
    assert len(tokenizer.encode(CAREFUL_PREFIX)) == 2
    assert len(tokenizer.encode("<think")) == 6
    text = SOLUTION
    for tag in tags:
        text = text.replace(tag, "#")
    assert len(tokenizer.encode(SOLUTION)) == len(text)


def test_tokens_of_parts_are_the_tokens_of_the_whole(tokenizer) -> None:
    """What lets a prefix be appended to a prompt, and a completion be learned after it."""
    for cut in range(len(SOLUTION)):
        if "<" in SOLUTION[:cut] and SOLUTION.rfind("<", 0, cut) > SOLUTION.rfind(">", 0, cut):
            continue  # inside a tag
        parts = tokenizer.encode(SOLUTION[:cut]) + tokenizer.encode(SOLUTION[cut:])
        assert parts == tokenizer.encode(SOLUTION)


def test_other_characters_become_unknown(tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("1é2")) == "1<unk>2"


def test_stop_and_padding_tokens_agree_everywhere(nano_dir: Path, tokenizer) -> None:
    model = AutoModelForCausalLM.from_pretrained(nano_dir)
    for config in (model.config, model.generation_config):
        assert config.eos_token_id == tokenizer.eos_token_id
        assert config.pad_token_id == tokenizer.pad_token_id
    assert tokenizer.eos_token_id != tokenizer.pad_token_id


def test_random_weights_predict_nothing(nano_dir: Path, tokenizer) -> None:
    model = AutoModelForCausalLM.from_pretrained(nano_dir)
    ids = torch.tensor([tokenizer.encode(SOLUTION)])
    with torch.no_grad():
        loss = model(ids, labels=ids).loss.item()
    assert abs(loss - math.log(VOCAB_SIZE)) < 0.2


VLLM_SCRIPT = """
import json, sys
from vllm import LLM, SamplingParams

options = dict(enforce_eager=True, dtype="float32", max_model_len=512)
llm = LLM(sys.argv[1], kv_cache_memory_bytes=64 << 20, **options)
sampling = SamplingParams(temperature=1.0, max_tokens=200, n=16, seed=0)
(request,) = llm.generate([sys.argv[2]], sampling, use_tqdm=False)
rows = [[list(o.token_ids), o.text, o.finish_reason] for o in request.outputs]
json.dump([request.prompt_token_ids, rows], open(sys.argv[3], "w"))
"""


@pytest.mark.slow
def test_vllm_loads_it_and_keeps_the_tags_in_its_text(
    nano_dir: Path, tokenizer, tmp_path: Path
) -> None:
    """In its own process: the shared engine of the session holds this one's distributed state."""
    out, prompt = tmp_path / "out.json", render("plain", "2395 + 972 = ?") + CAREFUL_PREFIX
    subprocess.run([sys.executable, "-c", VLLM_SCRIPT, nano_dir, prompt, out], check=True)
    prompt_ids, rows = json.loads(out.read_text())
    assert prompt_ids == tokenizer.encode(prompt)
    for token_ids, text, finish_reason in rows:
        assert text == tokenizer.decode(token_ids, skip_special_tokens=True)
        assert (finish_reason == "stop") == (token_ids[-1] == tokenizer.eos_token_id)
        assert tokenizer.eos_token_id not in token_ids[:-1]
    # Random weights: of up to 3200 tokens, four in 128 are tags and one in 128 stops.
    assert any("</think>" in text for _, text, _ in rows)
    assert {reason for *_, reason in rows} >= {"stop"}
