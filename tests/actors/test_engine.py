"""The engine's tokens, log-probs and versions against a Hugging Face model at the same weights."""

from pathlib import Path

import numpy as np
import pytest

from actors.engine import SamplingEngine
from async_r1.errors import TransferError
from async_r1.types import FinishReason
from tests.actors.policy import Policy, drain, merged, random_prompt, request

pytestmark = pytest.mark.slow
TOLERANCE = 1e-4
LONG = 200  # tokens: more than a cache block, which has 128 on CPU


@pytest.fixture(scope="module")
def policy(nano_dir: Path, shared_engine: SamplingEngine) -> Policy:
    policy = Policy(nano_dir)
    policy.join(shared_engine)
    policy.publish(shared_engine, 0)
    return policy


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_equal_the_models_before_and_after_updates(
    engine: SamplingEngine, policy: Policy, temperature: float
) -> None:
    for update in range(3):
        version = engine.policy_version
        prompts = {key: random_prompt(key) for key in range(4)}
        for key, prompt in prompts.items():
            engine.submit(request(key, prompt, 40, temperature=temperature))
        for key, chunks in drain(engine).items():
            tokens, logprobs, versions = merged(chunks)
            expected = policy.logprobs(prompts[key], tokens, temperature)
            assert np.abs(logprobs - expected).max() < TOLERANCE
            assert set(versions) == {version}
        policy.perturb(update)
        policy.publish(engine, version + 1)


def test_an_update_changes_logprobs_by_far_more_than_the_tolerance(
    engine: SamplingEngine, policy: Policy
) -> None:
    prompt, version = random_prompt(7), engine.policy_version
    engine.submit(request(1, prompt, 40))
    tokens, logprobs, _ = merged(drain(engine)[1])
    policy.perturb(11)
    policy.publish(engine, version + 1)
    assert np.abs(policy.logprobs(prompt, tokens) - logprobs).max() > 100 * TOLERANCE


def test_versions_are_those_held_at_each_step(engine: SamplingEngine, policy: Policy) -> None:
    first = engine.policy_version
    held, stamped = [], []
    engine.submit(request(1, random_prompt(3), 30))
    for step in range(200):
        if not engine.num_in_flight:
            break
        if step in (5, 12):
            policy.publish(engine, engine.policy_version + 1)
        held.append(engine.policy_version)
        stamped += [chunk.policy_version for chunk in engine.step()]
    assert stamped == held[: len(stamped)] and set(stamped) >= {first, first + 1}


def test_tokens_after_a_swap_with_recompute_are_those_of_the_new_weights(
    engine: SamplingEngine, policy: Policy
) -> None:
    """With a recomputed cache the suffix's log-probs are exactly the new version's."""
    prompt = random_prompt(5)
    engine._recompute = True
    try:
        engine.submit(request(1, prompt, 40))
        chunks = [chunk for _ in range(8) for chunk in engine.step()]
        policy.perturb(21)
        policy.publish(engine, engine.policy_version + 1)
        chunks += drain(engine)[1]
    finally:
        engine._recompute = False
    tokens, logprobs, versions = merged(chunks)
    after = np.asarray(versions) == engine.policy_version
    assert 0 < after.sum() < len(tokens)
    expected = policy.logprobs(prompt, tokens)
    assert np.abs(logprobs - expected)[after].max() < TOLERANCE
    assert chunks[-1].prefill_version == engine.policy_version


def test_the_prefix_cache_never_serves_old_weights(engine: SamplingEngine, policy: Policy) -> None:
    prompt = random_prompt(6, LONG)
    for seed in (31, 32):
        engine.submit(request(1, prompt, 8))
        tokens, logprobs, _ = merged(drain(engine)[1])
        assert np.abs(logprobs - policy.logprobs(prompt, tokens)).max() < TOLERANCE
        policy.perturb(seed)
        policy.publish(engine, engine.policy_version + 1)


def test_a_request_queued_before_an_update_is_prefilled_by_the_new_version(
    engine: SamplingEngine, policy: Policy
) -> None:
    prompt = random_prompt(8, LONG)
    engine.submit(request(1, prompt, 4))
    drain(engine)  # leaves the prompt in the prefix cache of this version
    engine.submit(request(2, prompt, 12))
    policy.perturb(41)
    policy.publish(engine, engine.policy_version + 1)
    tokens, logprobs, _ = merged(drain(engine)[2])
    assert np.abs(logprobs - policy.logprobs(prompt, tokens)).max() < TOLERANCE


def test_greedy_sampling_resumes_where_it_was_suspended(
    engine: SamplingEngine, policy: Policy
) -> None:
    prompt = random_prompt(9)
    engine.submit(request(1, prompt, 48, temperature=0.0))
    whole, _, _ = merged(drain(engine)[1])
    engine.submit(request(2, prompt, 16, temperature=0.0))
    head, _, _ = merged(drain(engine)[2])
    engine.submit(request(3, np.concatenate([prompt, head]), 48 - len(head), temperature=0.0))
    tail, _, _ = merged(drain(engine)[3])
    assert np.array_equal(np.concatenate([head, tail]), whole)


def test_the_stop_token_is_part_of_the_rollout(engine: SamplingEngine, policy: Policy) -> None:
    finished = []
    for key in range(32):
        engine.submit(request(key, random_prompt(100 + key), 200))
    for chunks in drain(engine).values():
        tokens, _, _ = merged(chunks)
        finished.append(chunks[-1].finish_reason)
        assert (tokens[-1] == 1) == (chunks[-1].finish_reason is FinishReason.STOP)
        assert 1 not in tokens[:-1]
    assert FinishReason.STOP in finished


def test_a_broken_transfer_stops_sampling_until_a_full_version_loads(
    engine: SamplingEngine, policy: Policy
) -> None:
    version = engine.policy_version
    engine.submit(request(1, random_prompt(12), 20))
    engine.step()
    broken = Policy.__new__(Policy)
    broken.model = policy.model
    from learner.gloo_sender import GlooSender

    broken.sender = GlooSender("127.0.0.1", 15.0)
    broken.join(engine)
    broken.sender.close()  # the learner is gone before it broadcasts
    with pytest.raises(TransferError, match=f"version {version + 1}"):
        engine.update_weights(version + 1, {"policy_version": version + 1})
    assert not engine.usable
    with pytest.raises(TransferError, match="part of a weight update"):
        engine.step()
    policy.join(engine)
    policy.perturb(51)
    policy.publish(engine, version + 2)
    assert engine.usable and drain(engine)[1][-1].policy_version == version + 2
    prompt = random_prompt(13)
    engine.submit(request(2, prompt, 20))
    tokens, logprobs, _ = merged(drain(engine)[2])
    assert np.abs(logprobs - policy.logprobs(prompt, tokens)).max() < TOLERANCE
