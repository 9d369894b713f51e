"""Chunked log-probs against the model's own logits."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from async_r1.config import LearnerConfig, ModelConfig
from async_r1.errors import ConfigError
from learner.batching import MicroBatch, collate, plan
from learner.logprob_head import LogprobHead
from learner.model import Policy, load_policy, token_logprobs
from tests.learner.batches import random_batch


def micro_batch(seed: int = 0) -> MicroBatch:
    batch = random_batch(seed)
    (shard,) = plan(batch, 1, 10_000)
    return collate(batch, {}, shard[0])


def naive(path: Path, batch: MicroBatch, temperature: float) -> tuple[nn.Module, Tensor]:
    """All logits at once, attention mask and all."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    attention = torch.zeros_like(batch.input_ids)
    for source in batch.sources:
        row, column = divmod(int(source), batch.input_ids.shape[1])
        attention[row, : column + 2] = 1
    logits = model(input_ids=batch.input_ids, attention_mask=attention).logits.float()
    logprobs = (logits / temperature).log_softmax(-1).flatten(0, 1)[batch.sources]
    return model, logprobs.gather(1, batch.targets[:, None]).squeeze(1)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("chunk", [7, 100_000])
def test_logprobs_and_gradients_are_those_of_full_logits(
    nano_dir: Path, nano_tied_dir: Path, tied: bool, temperature: float, chunk: int
) -> None:
    path = nano_tied_dir if tied else nano_dir
    batch = micro_batch()
    model, expected = naive(path, batch, temperature)
    weights = torch.randn(len(expected), generator=torch.Generator().manual_seed(0))
    (expected * weights).sum().backward()

    policy = Policy(
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32),
        temperature=temperature,
        chunk=chunk,
    )
    actual, entropies = token_logprobs(policy, batch)
    (actual * weights).sum().backward()

    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-6)
    assert not entropies.requires_grad
    names = policy.hf_names()
    reference = dict(model.named_parameters())
    assert names.keys() == reference.keys()
    assert ("lm_head.weight" in names) is not tied
    for name, parameter in names.items():
        torch.testing.assert_close(parameter.grad, reference[name].grad, rtol=1e-4, atol=1e-5)


def test_head_with_bias_and_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    projection = nn.Linear(16, 40)
    hidden = torch.randn(30, 16, generator=generator, requires_grad=True)
    targets = torch.randint(0, 40, (30,), generator=generator)
    log_p = (projection(hidden) / 0.7).log_softmax(-1)
    log_p.gather(1, targets[:, None]).sum().backward()
    expected = [p.grad.clone() for p in (hidden, projection.weight, projection.bias)]
    for parameter in (hidden, projection.weight, projection.bias):
        parameter.grad = None

    logprobs, entropies = LogprobHead(projection, chunk=8)(hidden, targets, 0.7)
    logprobs.sum().backward()
    torch.testing.assert_close(entropies, torch.distributions.Categorical(logits=log_p).entropy())
    for parameter, grad in zip((hidden, projection.weight, projection.bias), expected, strict=True):
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-4, atol=1e-5)


class LargestTensor(TorchDispatchMode):
    """Notes the number of elements of the largest result of any operation."""

    def __init__(self) -> None:
        super().__init__()
        self.num_elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, Tensor):
                self.num_elements = max(self.num_elements, value.numel())
        return result


def test_no_more_than_a_chunk_of_logits_lives_at_once() -> None:
    num_tokens, vocab, chunk = 500, 300, 50
    head = LogprobHead(nn.Linear(8, vocab, bias=False), chunk)
    hidden = torch.randn(num_tokens, 8, requires_grad=True)
    targets = torch.randint(0, vocab, (num_tokens,))
    with LargestTensor() as largest:
        logprobs, _ = head(hidden, targets, 1.0)
        logprobs.sum().backward()
    assert largest.num_elements <= chunk * vocab


def test_low_precision_models_have_float32_logits(nano_dir: Path) -> None:
    cfg = LearnerConfig(logprob_chunk_tokens=16)
    model = ModelConfig(path=str(nano_dir), dtype="bfloat16")
    policy = load_policy(model, cfg, temperature=1.0)
    logprobs, _ = token_logprobs(policy, micro_batch())
    assert logprobs.dtype == torch.float32
    logprobs.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == p.dtype for p in policy.parameters())


def test_models_that_change_their_logits_are_refused(nano_dir: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(nano_dir)
    plain = model.forward

    def capped(*args: Any, **kwargs: Any) -> Any:
        output = plain(*args, **kwargs)
        output.logits = output.logits.div(0.1).tanh().mul(0.1)
        return output

    model.forward = capped
    with pytest.raises(ConfigError, match="changes its logits"):
        Policy(model, temperature=1.0, chunk=8)


@pytest.mark.parametrize(
    ("break_it", "error"),
    [
        (
            lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"),
            "model.layers.1.mlp.up_proj.weight is missing",
        ),
        (
            lambda weights: weights.update({"model.norm.weight": torch.ones(64)}),
            "model.norm.weight is [64] instead of [128]",
        ),
        (
            lambda weights: [
                weights.update({f"transformer.{name}": weights.pop(name)}) for name in list(weights)
            ],
            "lm_head.weight is missing, model.embed_tokens.weight is missing, "
            "model.layers.0.input_layernorm.weight is missing and 44 more; it has "
            "transformer.lm_head.weight, which no part of the model takes",
        ),
    ],
    ids=["missing", "mismatched", "renamed"],
)
def test_a_checkpoint_of_another_architecture_is_refused(
    nano_dir: Path, tmp_path: Path, break_it: Callable[[dict[str, Tensor]], object], error: str
) -> None:
    shutil.copytree(nano_dir, tmp_path, dirs_exist_ok=True)
    weights = load_file(nano_dir / "model.safetensors")
    break_it(weights)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError) as raised:
        load_policy(ModelConfig(path=str(tmp_path)), LearnerConfig(), temperature=1.0)
    assert "another architecture than its config.json says: " + error in str(raised.value)


def test_attention_is_causal_without_a_mask_of_all_pairs(
    nano_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a mask tensor a GPU would fall back from flash attention, and hold all pairs."""
    policy = load_policy(ModelConfig(path=str(nano_dir)), LearnerConfig(), temperature=1.0)
    calls: list[tuple[Any, bool]] = []
    plain = nn.functional.scaled_dot_product_attention

    def watched(*args: Any, attn_mask: Any = None, is_causal: bool = False, **kwargs: Any) -> Any:
        calls.append((attn_mask, is_causal))
        return plain(*args, attn_mask=attn_mask, is_causal=is_causal, **kwargs)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", watched)
    batch = micro_batch()
    token_logprobs(policy, batch)
    assert len(calls) == policy.model.config.num_hidden_layers * len(batch.layout.buckets)
    assert all(mask is None and is_causal for mask, is_causal in calls)


def test_unusable_models_are_named() -> None:
    with pytest.raises(ConfigError, match=r"model\.path 'no/such/model/anywhere'"):
        load_policy(ModelConfig(path="no/such/model/anywhere"), LearnerConfig(), temperature=1.0)
    with pytest.raises(ConfigError, match=r"model\.dtype must be one of float32, bfloat16"):
        load_policy(ModelConfig(dtype="float16"), LearnerConfig(), temperature=1.0)
