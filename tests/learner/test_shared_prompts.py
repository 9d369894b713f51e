"""Sharing prompts changes no log-prob and no gradient, and is left where it would."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from learner.batching import collate, plan
from learner.model import Policy, token_logprobs
from learner.shared_prompts import NAME, share_prompts
from tests.learner.batches import random_batch


def gradients(policy: Policy, shared: bool, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    """Log-probs under "", and the gradient of a weighted sum of them by parameter."""
    batch = random_batch(3, group_size=5, lens=(1, 30))
    (shard,) = plan(batch, 1, 60)
    policy.shares_prompts = shared
    policy.zero_grad()
    found = []
    for rows in shard:
        micro = collate(batch, {"index": torch.arange(batch.num_tokens).numpy()}, rows)
        logprobs, _ = token_logprobs(policy, micro)
        (logprobs * weights[micro.fields["index"]]).sum().backward()
        found.append(logprobs.detach())
    grads = {name: p.grad.clone() for name, p in policy.hf_names().items() if p.grad is not None}
    return {"": torch.cat(found), **grads}


def test_nothing_changes_but_the_work(nano_dir: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(nano_dir, dtype=torch.float32)
    policy = Policy(model, temperature=0.8, chunk=64)
    assert policy.shares_prompts and model.config._attn_implementation == NAME
    weights = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    whole, shared = (gradients(policy, share, weights) for share in (False, True))
    assert whole.keys() == shared.keys()
    for name, value in whole.items():
        torch.testing.assert_close(shared[name], value, rtol=1e-4, atol=1e-5)


def test_gradients_of_shared_tokens_add_up_in_one_order(nano_dir: Path) -> None:
    """However its threads run: sync mode repeats to the last digit."""
    model = AutoModelForCausalLM.from_pretrained(nano_dir, dtype=torch.float32)
    policy = Policy(model, temperature=1.0, chunk=512)
    batch = random_batch(0, num_groups=2, group_size=200, lens=(1, 4))
    ((rows,),) = plan(batch, 1, 10_000)
    micro = collate(batch, {}, rows)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = []
        for _ in range(8):
            policy.zero_grad()
            token_logprobs(policy, micro)[0].sum().backward()
            found.append([p.grad.clone() for p in policy.parameters() if p.grad is not None])
    finally:
        torch.set_num_threads(threads)
    for again in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], again, strict=True))


def test_a_shared_prompt_goes_through_the_layers_once(nano_dir: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(nano_dir, dtype=torch.float32)
    policy = Policy(model, temperature=1.0, chunk=64)
    batch = random_batch(0, num_groups=2, group_size=6)
    ((rows,),) = plan(batch, 1, 10_000)
    micro = collate(batch, {}, rows)
    seen: list[int] = []
    model.model.layers[0].mlp.register_forward_hook(
        lambda _, given, __: seen.append(given[0].shape[:-1].numel())
    )
    token_logprobs(policy, micro)
    prompts = batch.prompt_lens[::6].sum()
    assert seen == [prompts + batch.num_tokens]


SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def test_another_architecture_shares_too() -> None:
    torch.manual_seed(0)
    assert share_prompts(LlamaForCausalLM(LlamaConfig(**SMALL)))


def test_models_with_another_attention_are_left_as_they_were(
    caplog: pytest.LogCaptureFixture,
) -> None:
    torch.manual_seed(0)
    window = MistralForCausalLM(MistralConfig(**SMALL, sliding_window=2))
    learned = GPT2LMHeadModel(
        GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, reorder_and_upcast_attn=True)
    )
    for model in (window, learned):
        before = model.config._attn_implementation
        with caplog.at_level(logging.WARNING, logger="learner"):
            shares = share_prompts(model)
        assert model.config._attn_implementation == (NAME if shares else before)
        if model is window:
            assert not shares and "MistralForCausalLM" in caplog.text
