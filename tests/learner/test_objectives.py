"""Objectives against the papers' equations in slow Python, and against what they must reduce to."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from async_r1.config import ObjectiveConfig
from learner.advantages import normalise
from learner.objectives import Objective, Tokens, make_objective
from learner.objectives.dppo import Dppo
from learner.objectives.grpo import Grpo
from learner.objectives.terms import k3, ratio_statistics
from learner.statistics import Totals

SEQUENCE = [0, 0, 0, 1, 1, 2, 2, 2, 2, 3]
ADVANTAGE = [1.5, -0.7, -1.2, 0.4]
DPPO = Dppo(ratio_cap=5.0, tv_low=0.2, tv_high=0.2, drift=1e-2)
GRPO = Grpo(clip_low=0.2, clip_high=0.3, kl=0.05)


def random_tokens(seed: int) -> tuple[Tensor, Tokens]:
    """Log-probs of a policy and the tokens of four sequences that another one sampled."""
    generator = torch.Generator().manual_seed(seed)
    num = len(SEQUENCE)

    def logprobs() -> Tensor:
        return torch.rand(num, generator=generator, dtype=torch.float64).log()

    pi = logprobs().requires_grad_()
    tokens = Tokens(
        behavior_logprobs=logprobs(),
        advantages=torch.tensor([ADVANTAGE[row] for row in SEQUENCE], dtype=torch.float64),
        mask=torch.tensor([True] * 5 + [False, True, True, False, True]),
        sequence=torch.tensor(SEQUENCE),
        num_sequences=4,
        reference_logprobs=logprobs(),
    )
    return pi, tokens


def on_policy(pi: Tensor, tokens: Tokens) -> Tokens:
    """The same tokens, sampled and referred to by the policy itself."""
    return Tokens(
        behavior_logprobs=pi.detach(),
        advantages=tokens.advantages,
        mask=tokens.mask,
        sequence=tokens.sequence,
        num_sequences=tokens.num_sequences,
        reference_logprobs=pi.detach(),
    )


def dppo_gradient(objective: Dppo, pi: list[float], tokens: Tokens) -> list[float]:
    """d loss / d log pi of each token, from arXiv 2602.04879, token by token."""
    mu, advantages = tokens.behavior_logprobs.tolist(), tokens.advantages.tolist()
    gradient = []
    for t, row in enumerate(SEQUENCE):
        mine = [u for u in range(len(pi)) if SEQUENCE[u] == row and tokens.mask[u]]
        kl = sum(mu[u] - pi[u] for u in mine) / max(1, len(mine))
        ratio = math.exp(pi[t] - mu[t])
        gap = math.exp(pi[t]) - math.exp(mu[t])
        keep = 1.0
        if advantages[t] > 0 and gap > objective.tv_high:
            keep = 0.0
        if advantages[t] < 0 and gap < -objective.tv_low:
            keep = 0.0
        if objective.opsm and advantages[t] < 0 and kl > objective.opsm:
            keep = 0.0
        policy = -min(ratio, objective.ratio_cap) * keep * advantages[t]
        gradient.append(policy + 2 * objective.drift * (pi[t] - mu[t]))
    return gradient


def grpo_loss(objective: Grpo, pi: list[float], tokens: Tokens) -> list[float]:
    """Loss of each token from arXiv 2402.03300 eq. 3 and 4."""
    assert tokens.reference_logprobs is not None
    losses = []
    for log_pi, log_mu, log_ref, advantage in zip(
        pi,
        tokens.behavior_logprobs.tolist(),
        tokens.reference_logprobs.tolist(),
        tokens.advantages.tolist(),
        strict=True,
    ):
        ratio = math.exp(log_pi - log_mu)
        clipped = min(max(ratio, 1 - objective.clip_low), 1 + objective.clip_high)
        kl = math.exp(log_ref) / math.exp(log_pi) - math.log(math.exp(log_ref - log_pi)) - 1
        losses.append(-min(ratio * advantage, clipped * advantage) + objective.kl * kl)
    return losses


def total(objective: Objective, pi: Tensor, tokens: Tokens) -> Tensor:
    terms = objective(pi, tokens)
    return (terms.policy + terms.penalty).sum()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("opsm", [0.0, 0.3])
@pytest.mark.parametrize("cap", [1.5, 5.0])
def test_dppo_gradient_is_the_papers(seed: int, opsm: float, cap: float) -> None:
    objective = Dppo(ratio_cap=cap, tv_low=0.15, tv_high=0.25, drift=1e-2, opsm=opsm)
    pi, tokens = random_tokens(seed)
    total(objective, pi, tokens).backward()
    assert pi.grad is not None
    assert pi.grad.tolist() == pytest.approx(dppo_gradient(objective, pi.tolist(), tokens))


@pytest.mark.parametrize("seed", range(5))
def test_grpo_loss_is_the_papers(seed: int) -> None:
    pi, tokens = random_tokens(seed)
    terms = GRPO(pi, tokens)
    actual = (terms.policy + terms.penalty).tolist()
    assert actual == pytest.approx(grpo_loss(GRPO, pi.tolist(), tokens))


@pytest.mark.parametrize("seed", range(3))
def test_grpo_gradient_is_that_of_its_loss(seed: int) -> None:
    pi, tokens = random_tokens(seed)
    assert torch.autograd.gradcheck(lambda x: total(GRPO, x, tokens), (pi,))


@pytest.mark.parametrize("objective", [DPPO, GRPO], ids=["dppo", "grpo"])
def test_on_policy_gradient_is_reinforce(objective: Objective) -> None:
    pi, tokens = random_tokens(0)
    total(objective, pi, on_policy(pi, tokens)).backward()
    torch.testing.assert_close(pi.grad, -tokens.advantages)


# p of the behaviour policy, p of the policy, advantage -> does the policy gradient reach the token
TRUST_REGION = [
    (0.50, 0.71, +1.0, False),  # up by more than 0.2
    (0.50, 0.69, +1.0, True),
    (0.50, 0.71, -1.0, True),  # comes back
    (0.50, 0.29, -1.0, False),  # down by more than 0.2
    (0.50, 0.31, -1.0, True),
    (0.50, 0.29, +1.0, True),  # comes back
    (0.001, 0.003, +1.0, True),  # ratio 3, but hardly any probability
    (0.99, 0.75, -1.0, False),  # ratio 0.76, but a lot of it
]


@pytest.mark.parametrize(("mu", "pi", "advantage", "passes"), TRUST_REGION)
def test_dppo_trust_region(mu: float, pi: float, advantage: float, passes: bool) -> None:
    objective = Dppo(ratio_cap=5.0, tv_low=0.2, tv_high=0.2, drift=0.0)
    logprob = torch.tensor([math.log(pi)], requires_grad=True)
    one = torch.zeros(1, dtype=torch.int64)
    tokens = Tokens(
        torch.tensor([math.log(mu)]), torch.tensor([advantage]), one == 0, one, num_sequences=1
    )
    terms = objective(logprob, tokens)
    terms.policy.sum().backward()
    assert logprob.grad is not None
    assert bool(logprob.grad != 0) is passes
    assert float(terms.statistics.sums["silenced"]) == float(not passes)


def test_dppo_pulls_back_tokens_that_the_trust_region_silences() -> None:
    logprob = torch.tensor([math.log(0.9)], requires_grad=True)
    one = torch.zeros(1, dtype=torch.int64)
    tokens = Tokens(torch.tensor([math.log(0.5)]), torch.ones(1), one == 0, one, num_sequences=1)
    total(DPPO, logprob, tokens).backward()
    assert logprob.grad is not None
    assert float(logprob.grad) == pytest.approx(2 * DPPO.drift * math.log(0.9 / 0.5))


def test_opsm_counts_trainable_tokens_only() -> None:
    # The masked token alone would bring the mean divergence of the sequence over the limit.
    pi = torch.tensor([-1.0, -9.0], requires_grad=True)
    tokens = Tokens(
        torch.tensor([-1.0, -1.0]),
        torch.tensor([-1.0, -1.0]),
        torch.tensor([True, False]),
        torch.zeros(2, dtype=torch.int64),
        num_sequences=1,
    )
    objective = Dppo(ratio_cap=5.0, tv_low=0.9, tv_high=0.9, drift=0.0, opsm=0.1)
    terms = objective(pi, tokens)
    assert float(terms.statistics.sums["silenced"]) == 0.0


def test_k3_values() -> None:
    x = torch.tensor([0.0, 1.0, -1.0, 0.1], dtype=torch.float64)
    expected = [0.0, math.e - 2.0, math.exp(-1.0), math.exp(0.1) - 1.1]
    assert k3(x).tolist() == pytest.approx(expected)


def test_k3_estimates_the_divergence() -> None:
    """E_q[k3(log p - log q)] = KL(q || p), exactly, over a distribution."""
    generator = torch.Generator().manual_seed(0)
    q = torch.softmax(torch.randn(50, generator=generator, dtype=torch.float64), 0)
    p = torch.softmax(torch.randn(50, generator=generator, dtype=torch.float64), 0)
    divergence = (q * (q.log() - p.log())).sum()
    torch.testing.assert_close((q * k3(p.log() - q.log())).sum(), divergence)


def test_extreme_ratios_stay_finite() -> None:
    for objective in (DPPO, GRPO):
        pi = torch.tensor([-1e-6, -300.0], requires_grad=True)
        tokens = Tokens(
            torch.tensor([-300.0, -1e-6]),
            torch.tensor([-1.0, 1.0]),
            torch.ones(2, dtype=torch.bool),
            torch.zeros(2, dtype=torch.int64),
            num_sequences=1,
            reference_logprobs=torch.tensor([-300.0, -1e-6]),
        )
        total(objective, pi, tokens).backward()
        assert pi.grad is not None
        assert torch.isfinite(pi.grad).all()


def test_statistics_are_those_of_the_trainable_tokens() -> None:
    pi, tokens = random_tokens(1)
    found = ratio_statistics(pi, tokens)
    x = (pi.detach() - tokens.behavior_logprobs).numpy()
    mask = tokens.mask.numpy()
    rows = np.array(SEQUENCE)
    w = np.exp([x[mask & (rows == row)].sum() for row in range(4)])
    totals = Totals(
        {name: float(value) for name, value in found.sums.items()},
        {name: float(value) for name, value in found.maxima.items()},
    )
    assert totals.sums["tokens"] == mask.sum()
    assert totals.sums["sequences"] == 4
    assert totals.mean("ratio") == pytest.approx(np.exp(x[mask]).mean())
    assert totals.maxima["ratio"] == pytest.approx(np.exp(x[mask]).max())
    assert totals.maxima["logprob_diff"] == pytest.approx(np.abs(x[mask]).max())
    assert totals.mean("mismatch_kl") == pytest.approx((np.exp(x) - 1 - x)[mask].mean())
    assert totals.effective_sample_frac() == pytest.approx(w.sum() ** 2 / (4 * (w**2).sum()))


def test_effective_sample_frac_is_one_on_policy() -> None:
    pi, tokens = random_tokens(2)
    found = ratio_statistics(pi, on_policy(pi, tokens))
    totals = Totals({name: float(value) for name, value in found.sums.items()}, {})
    assert totals.effective_sample_frac() == pytest.approx(1.0)


def test_registry_takes_its_options_from_the_config() -> None:
    cfg = ObjectiveConfig(name="dppo", ratio_cap=3.0, drift=0.5, opsm=0.25)
    assert make_objective(cfg) == Dppo(3.0, cfg.tv_low, cfg.tv_high, 0.5, 0.25)
    grpo = make_objective(ObjectiveConfig(name="grpo", kl=0.0))
    assert grpo == Grpo(0.2, 0.2, 0.0)
    assert not grpo.needs_reference


@pytest.mark.parametrize("objective", [DPPO, Grpo(0.2, 0.2, kl=0.0)], ids=["dppo", "grpo"])
def test_stale_rollouts_still_teach(objective: Objective) -> None:
    """A policy over eight tokens, paid per token 3, learns from what it was four updates ago."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.zeros(8, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    history = []
    for _ in range(60):
        history.append(logits.detach().clone().log_softmax(0))
        mu = history[max(0, len(history) - 5)]
        samples = torch.multinomial(mu.exp(), 64 * 4, replacement=True, generator=generator)
        rewards = (samples.view(64, 4) == 3).float().mean(1)
        advantages = normalise((rewards - rewards.mean()).numpy(), np.zeros(64, np.int32), "batch")
        tokens = Tokens(
            behavior_logprobs=mu[samples],
            advantages=torch.from_numpy(advantages).repeat_interleave(4),
            mask=torch.ones(256, dtype=torch.bool),
            sequence=torch.arange(64).repeat_interleave(4),
            num_sequences=64,
        )
        terms = objective(logits.log_softmax(0)[samples], tokens)
        optimizer.zero_grad()
        (terms.policy + terms.penalty).mean().backward()
        optimizer.step()
    assert history[0].exp()[3] == pytest.approx(1 / 8)
    assert history[-1].exp()[3] > 0.9
