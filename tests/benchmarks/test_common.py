"""The pure parts of the benchmarks, against numpy and by hand."""

import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.benchmarks.conftest import FOLDER, SCRIPTS


@pytest.fixture
def common(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("common")


@pytest.mark.parametrize(
    ("points", "level", "crossing"),
    [
        ([(0, 0.0), (10, 0.5), (20, 1.0)], 0.75, 15.0),
        ([(0, 0.0), (10, 0.8)], 0.8, 10.0),
        ([(3, 0.9), (10, 1.0)], 0.8, 3.0),  # it was there from the start
        ([(0, 0.0), (10, 0.9), (20, 0.1), (30, 1.0)], 0.9, 10.0),  # the first of several
        ([(0, 0.0), (10, 0.79)], 0.8, None),
        ([], 0.5, None),
    ],
)
def test_first_crossing(
    common: ModuleType, points: list[tuple[float, float]], level: float, crossing: float | None
) -> None:
    found = common.first_crossing(points, level)
    assert found == crossing if crossing is None else found == pytest.approx(crossing)


def test_first_crossing_agrees_with_a_scan_of_the_curve(common: ModuleType) -> None:
    rng = np.random.default_rng(0)
    fine = np.linspace(0, 9, 90001)
    for _ in range(20):
        y = rng.random(10)
        above = np.flatnonzero(np.interp(fine, np.arange(10), y) >= 0.7)
        found = common.first_crossing(list(zip(range(10), y, strict=True)), 0.7)
        if len(above):
            assert found == pytest.approx(fine[above[0]], abs=2e-4)
        else:
            assert found is None


def test_quantile_is_numpys_inverted_cdf(common: ModuleType) -> None:
    values = np.random.default_rng(1).random(37)
    for q in (0.0, 0.1, 0.5, 0.9, 0.99, 1.0):
        assert common.quantile(values, q) == np.quantile(values, q, method="inverted_cdf")
    assert common.quantile([], 0.5) is None


def pooled(values: list[float]) -> list[float]:
    """Isotonic regression the other way: neighbours that fall are pooled until none does."""
    blocks: list[list[float]] = []
    for value in values:
        blocks.append([value])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    return [float(np.mean(block)) for block in blocks for _ in block]


def test_rising_is_isotonic_regression(common: ModuleType) -> None:
    rng = np.random.default_rng(2)
    for size in (0, 1, 2, 3, 12, 12, 12):
        values = (rng.random(size) + 0.1 * np.arange(size)).tolist()
        assert common.rising(values) == pytest.approx(pooled(values))
    assert common.rising([0.0, 0.8, 0.6, 1.0]) == pytest.approx([0.0, 0.7, 0.7, 1.0])


def test_ratio_of_medians(common: ModuleType) -> None:
    assert common.ratio_of_medians([9.0, 6.0, 1.0], [2.0, 3.0, 100.0]) == 2.0
    assert common.ratio_of_medians([9.0, None], [1.0, 1.0]) is None
    assert common.ratio_of_medians([9.0], [1.0, None]) is None
    assert common.ratio_of_medians([], [1.0]) is None
    assert common.ratio_of_medians([1.0], [0.0]) is None


def test_lengths_are_lognormal_and_clipped(common: ModuleType) -> None:
    def drawn(top: int) -> list[int]:
        return [
            common.target_length(0, rollout, log_median=math.log(128), sigma=1.0, top=top)
            for rollout in range(4000)
        ]

    free, clipped = drawn(10**9), drawn(300)
    assert statistics.median(free) == pytest.approx(128, rel=0.06)
    assert statistics.stdev(map(math.log, free)) == pytest.approx(1.0, rel=0.05)
    assert clipped == [min(300, length) for length in free]
    assert drawn(300) == clipped, "the length of a rollout is fixed by its id"
    assert min(common.target_length(0, i, log_median=-9, sigma=0.1, top=5) for i in range(9)) == 1


def test_a_table_is_aligned(common: ModuleType) -> None:
    lines = common.table(["name", "value"], [["a", 1234.5], ["long", None], ["b", 0.04567]])
    assert lines.splitlines() == [
        "name  value",
        "-----------",
        "a     1,234",
        "long      -",
        "b     0.046",
    ]


def test_an_endless_model_never_ends(common: ModuleType, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    common.endless_model(tmp_path / "model", max_length=512)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    assert model.config.max_position_embeddings == 512
    generation = json.loads((tmp_path / "model/generation_config.json").read_text())
    tokens = torch.randint(0, 128, (4, 500), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logprobs = torch.log_softmax(model(tokens).logits, -1)
    assert logprobs[..., generation["eos_token_id"]].max() < -60
    # And it is random apart from that: no other token is likely.
    assert logprobs.max() < math.log(0.1)


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(name: str) -> None:
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "--json" in shown and "--quick" in shown


def test_the_readme_names_every_script(common: ModuleType) -> None:
    readme = (FOLDER / "README.md").read_text()
    for name in (*SCRIPTS, "demo_seeds"):
        assert f"benchmarks/{name}.py" in readme
