import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from async_r1.config import LearnerConfig, ModelConfig
from learner.checkpoint import save_checkpoint
from learner.layout import Layout
from learner.model import load_policy


@pytest.mark.parametrize("tied", [False, True])
def test_checkpoint_loads_in_transformers_with_the_same_logits(
    nano_dir, nano_tied_dir, tmp_path, tied
) -> None:
    source = nano_tied_dir if tied else nano_dir
    policy = load_policy(ModelConfig(path=str(source)), LearnerConfig(), temperature=1.0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    weights = policy.hf_names()
    hf = save_checkpoint(tmp_path / "version_000007", weights.items(), source, version=7)
    assert hf == tmp_path / "version_000007" / "hf"
    facts = json.loads((hf.parent / "COMPLETE").read_text())
    assert facts["policy_version"] == 7

    model = AutoModelForCausalLM.from_pretrained(hf)
    loaded = dict(model.named_parameters())
    assert loaded.keys() == weights.keys()
    assert all((loaded[name] == weight).all() for name, weight in weights.items())
    ids = AutoTokenizer.from_pretrained(hf)("12+34=?\n", return_tensors="pt").input_ids
    num_tokens = ids.shape[1]
    layout = Layout.of([1], [num_tokens - 1], [0])
    logprobs, _ = policy(ids, torch.arange(num_tokens - 1), ids[0, 1:], layout)
    expected = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None]).squeeze(1)
    torch.testing.assert_close(logprobs, expected, rtol=0, atol=1e-6)
    assert "async_r1" not in (hf / "config.json").read_text()  # readers have no such attention


def test_a_checkpoint_is_whole_or_absent(nano_dir, tmp_path) -> None:
    directory = tmp_path / "version_000001"

    def broken():
        yield "a", torch.ones(2)
        raise RuntimeError("no more weights")

    with pytest.raises(RuntimeError):
        save_checkpoint(directory, broken(), nano_dir, version=1)
    assert not directory.exists()
    save_checkpoint(directory, [("a", torch.ones(2))], nano_dir, version=1)
    assert (directory / "COMPLETE").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["version_000001"]


def test_an_existing_checkpoint_stays(nano_dir, tmp_path) -> None:
    directory = tmp_path / "version_000001"
    save_checkpoint(directory, [("a", torch.ones(2))], nano_dir, version=1)
    before = (directory / "hf" / "model.safetensors").read_bytes()
    save_checkpoint(directory, [("a", torch.zeros(2))], nano_dir, version=1)
    assert (directory / "hf" / "model.safetensors").read_bytes() == before
