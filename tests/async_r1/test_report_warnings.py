"""Each warning from the rows that ask for it, and from rows just short of them."""

from pathlib import Path
from typing import Any

import pytest

from async_r1.report import write_report
from async_r1.report_warnings import interval, warnings
from async_r1.run_dir import RunDir
from async_r1.summary import summarize
from async_r1.view import RunView
from tests.async_r1.synthetic_run import make_run, write_rows

STEPS = 30


def warned(run: RunDir) -> list[str]:
    view = RunView(run)
    return warnings(view, summarize(view))


def run_with(path: Path, **at: dict[int, Any]) -> RunDir:
    """A calm run in which some steps have other values of a metric."""
    overrides: dict[int, dict[str, Any]] = {}
    for name, values in at.items():
        for step, value in values.items():
            overrides.setdefault(step, {})[name.replace("__", "/")] = value
    return make_run(path / "run", steps=STEPS, overrides=overrides)


LAST = range(STEPS - 4, STEPS + 1)


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (
            {"staleness__max": {4: 5, 9: 7}},
            "The staleness bound was exceeded at 2 of 30 steps, first at step 4.",
        ),
        (
            {"ratio__ess": {3: 0.45, 8: 0.3, 9: 0.5}},
            "The effective sample size was below 0.5 at 2 of 30 steps, lowest 0.30 at step 8: few "
            "tokens carried these updates. A lower staleness.eta or learner.lr usually raises it.",
        ),
        (
            {"entropy__mean": {**dict.fromkeys(range(1, 6), 1.0), **dict.fromkeys(LAST, 0.125)}},
            "Entropy fell from 1.00 to 0.125 nats per token: the rollouts of a group become "
            "alike, and what is alike teaches nothing more.",
        ),
        (
            {"completion_length__clip_frac": dict.fromkeys(LAST, 0.25)},
            "25 % of the rollouts of the last 5 steps were cut at the length limit "
            "(task.max_new_tokens=256).",
        ),
    ],
)
def test_one_thing_went_wrong(tmp_path: Path, at: dict[str, dict[int, Any]], said: str) -> None:
    run = run_with(tmp_path, **at)
    limit = RunView(run).option("task.max_new_tokens")
    assert warned(run) == [said.replace("256)", f"{limit})")]
    page = write_report(run).read_text()
    assert page.count('class="warnings"') == 1 and "Nothing stood out" not in page


@pytest.mark.parametrize(
    "at",
    [
        {},
        {"staleness__max": {4: 4}},
        {"ratio__ess": {3: 0.5, 4: None}},
        {"entropy__mean": {**dict.fromkeys(range(1, 6), 1.0), **dict.fromkeys(LAST, 0.2)}},
        {"entropy__mean": dict.fromkeys(range(1, STEPS + 1))},
        {"completion_length__clip_frac": dict.fromkeys(LAST, 0.1)},
        {"completion_length__clip_frac": {STEPS: 0.4}},  # one step is not the end of a run
    ],
)
def test_nothing_went_wrong(tmp_path: Path, at: dict[str, dict[int, Any]]) -> None:
    assert warned(run_with(tmp_path, **at)) == []


def empty_run(path: Path) -> RunDir:
    return RunDir.create(path / "run")


@pytest.mark.parametrize(("zero", "said"), [(51, True), (50, False)])
def test_groups_without_variance(tmp_path: Path, zero: int, said: bool) -> None:
    run = empty_run(tmp_path)
    early = [{"groups/closed": 1000, "groups/zero_variance": 1000 * (not said)}]
    late = [{"groups/closed": 10, "groups/zero_variance": zero / 10}] * 10
    write_rows(run, "buffer", early + late)
    expected = (
        "In the last 10 versions 51 % of the closed groups had equal rewards throughout: most "
        "prompts were too easy or too hard for the policy."
    )
    assert warned(run) == ([expected] if said else [])


@pytest.mark.parametrize(("last", "said"), [(0.70, True), (0.80, False)])
def test_accuracy_that_fell_from_its_best(tmp_path: Path, last: float, said: bool) -> None:
    """Of 100 prompts, Wilson: 90 gives [0.826, 0.945], 70 [0.604, 0.781], 80 [0.711, 0.867]."""
    run = empty_run(tmp_path)
    values = {0: 0.1, 10: 0.9, 20: last}
    write_rows(run, "learner", [{"step": s + 1, "policy_version": s} for s in values])
    rows = [
        {"policy_version": v, "eval/accuracy": value, "eval/num_prompts": 100}
        for v, value in values.items()
    ]
    write_rows(run, "eval", rows)
    expected = "Held-out accuracy ended below its best: 0.700 at v20 after 0.900 at v10."
    assert warned(run) == ([expected] if said else [])


def test_what_was_rejected_or_cannot_be_read(tmp_path: Path) -> None:
    run = empty_run(tmp_path)
    write_rows(run, "buffer", [{"wire/rejected": 2}, {"wire/rejected": 0}, {"wire/rejected": 1}])
    with run.metrics_file("buffer").open("a") as file:
        file.write("[1]\n{cut\n")
    assert warned(run) == [
        "The buffer rejected 3 malformed messages; logs/buffer.log has them.",
        "2 lines of the metric files could not be read.",
    ]


def test_rewards_that_failed(tmp_path: Path) -> None:
    run = empty_run(tmp_path)
    write_rows(run, "buffer", [{"reward/errors": 2, "reward/timeouts": 1}, {"reward/errors": 3}])
    assert warned(run) == [
        "The reward of 5 rollouts failed, 1 of them by its time limit; logs/buffer.log has the "
        "first of each kind."
    ]


def test_intervals() -> None:
    """The bounds solve |p - p0| = z sqrt(p0 (1 - p0) / n), as Wilson (1927) defines them."""
    for right, n in ((0, 100), (20, 100), (80, 100), (192, 192)):
        value = right / n
        for end in interval({"eval/accuracy": value, "eval/num_prompts": n}):
            distance = 1.959963985 * (end * (1 - end) / n) ** 0.5
            assert abs(value - end) == pytest.approx(distance, abs=1e-9)
    assert interval({"eval/accuracy": 0.95, "eval/accuracy/ci95": 0.1}) == (0.85, 1.0)


def test_selection_bias(tmp_path: Path) -> None:
    """The threshold and chance were judged by the buffer; the largest distance is named."""
    run = make_run(tmp_path / "run", steps=STEPS)
    biased = {"selection/biased": 1, "selection/ks_length/with_variance": 0.15}
    for version, tokens in ((30, 0.3), (31, 0.25)):
        row = {**biased, "policy_version": version, "selection/ks_tokens/with_variance": tokens}
        write_rows(run, "buffer", [{"step": version, **row}])
    (said,) = warned(run)
    assert said == (
        "What trained differed from what was generated at 2 of 32 versions, by 0.300 at most "
        "(selection/ks_tokens/with_variance at v30; the threshold is 0.1): see the table of fates "
        "below, and docs/selection.md."
    )
