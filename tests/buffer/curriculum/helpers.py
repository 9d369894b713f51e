"""Small curricula, and the counts of what they draw."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from async_r1.config import Config
from async_r1.schema import build
from buffer.curriculum import Outcome
from buffer.curriculum.mixture import Mixture


def make_mixture(labels: Any, seed: int = 0, **options: Any) -> Mixture:
    """A curriculum over prompts with these labels, or over so many of one label; of each prompt
    only its own groups are known, unless options say otherwise."""
    options["success"] = {"level_prior": 0.0, **options.get("success", {})}
    config = build(Config, {"curriculum": options}).curriculum
    return Mixture(config, np.asarray([1] * labels if isinstance(labels, int) else labels), seed)


def outcome(
    prompt: int, successes: float, trials: int = 8, version: int = 0, **more: Any
) -> Outcome:
    """As of a group with rewards of 0 and 1."""
    share = successes / trials
    values = {
        "zero_variance": share in (0.0, 1.0),
        "abs_advantage": 2 * share * (1 - share),
        "reward": share,
        **more,
    }
    return Outcome(prompt=prompt, successes=successes, trials=trials, version=version, **values)


def teach(mixture: Mixture, successes: Sequence[float | None], version: int = 0) -> None:
    """One group of 8 of each prompt, with so many right; None: the prompt is never drawn."""
    for prompt, right in enumerate(successes):
        if right is not None:
            mixture.opened(prompt, version)
            mixture.observe(outcome(prompt, right, version=version))


def counts(mixture: Mixture, draws: int, version: int = 0) -> np.ndarray:
    """How often each prompt is drawn alone, and abandoned at once, so that nothing is learned."""
    found = np.zeros(mixture._roster.num_prompts)
    for _ in range(draws):
        (prompt,) = mixture.sample(1, version).tolist()
        found[prompt] += 1
        mixture.abandoned(prompt)
    return found


def check_frequencies(found: np.ndarray, expected: np.ndarray) -> None:
    """Pearson's chi-square against probabilities, at five standard deviations of its
    distribution; the seeds are fixed, so this passes always or never."""
    expected = np.asarray(expected, float) / np.sum(expected)
    assert not found[expected == 0].any()
    degrees = int((expected > 0).sum()) - 1
    mean = found.sum() * expected[expected > 0]
    statistic = float((((found[expected > 0] - mean) ** 2) / mean).sum())
    assert statistic < degrees + 5 * np.sqrt(2 * degrees), (found, mean)
    assert statistic > 0  # nothing random is exactly its mean
