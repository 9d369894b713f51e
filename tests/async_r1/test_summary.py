"""The summary against sums over the rows, written out."""

import io
from pathlib import Path
from typing import Any

import pytest

from async_r1.metrics import read_rows
from async_r1.run_dir import RunDir
from async_r1.summary import bound_text, lines, print_summary, summarize
from async_r1.view import RunView
from tests.async_r1.synthetic_run import make_run, write_rows


def test_numbers_of_a_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=60, actors=2)
    learner = read_rows(run.metrics_file("learner"))
    evals = read_rows(run.metrics_file("eval"))
    groups = read_rows(run.metrics_file("buffer"))
    s = summarize(RunView(run))

    def first_last(name: str) -> tuple[float, float]:
        column = [row[name] for row in learner]
        return sum(column[:5]) / 5, sum(column[-5:]) / 5

    assert (s.state, s.steps, s.num_updates, s.version) == ("finished", 60, 60, 60)
    assert (s.first_eval, s.last_eval) == (evals[0], evals[-1])
    assert s.best_eval is not None
    assert s.best_eval["eval/accuracy"] == max(row["eval/accuracy"] for row in evals)
    assert (s.reward_first, s.reward_last) == pytest.approx(first_last("reward/mean"))
    assert (s.length_first, s.length_last) == pytest.approx(first_last("completion_length/mean"))
    tokens = [row["batch/num_tokens"] for row in learner]
    ages = [row["staleness/mean"] for row in learner]
    weighted = sum(a * n for a, n in zip(ages, tokens, strict=True)) / sum(tokens)
    assert s.staleness_mean == pytest.approx(weighted)
    assert s.staleness_max == max(row["staleness/max"] for row in learner)
    assert s.staleness_bound == 4
    assert s.bound_kept is True
    shares = [row["versions_per_rollout/three_or_more_frac"] for row in learner]
    assert s.three_versions_frac == pytest.approx(sum(shares) / len(shares))  # equal batches
    waited = sum(row["time/wait_batch_s"] for row in learner)
    assert s.learner_idle_frac == pytest.approx(waited / sum(r["time/step_s"] for r in learner))
    zero, closed = (sum(r[f"groups/{k}"] for r in groups) for k in ("zero_variance", "closed"))
    assert s.zero_variance_frac == pytest.approx(zero / closed)
    sampled = sum(
        read_rows(run.metrics_file(f"actor_{i:03d}"))[-1]["tokens/sampled"] for i in range(2)
    )
    seconds = learner[-1]["wall_s"] - learner[0]["wall_s"] + learner[0]["time/step_s"]
    assert s.tokens_sampled == sampled
    assert s.tokens_trained == learner[-1]["tokens"]
    assert s.sampled_per_s == pytest.approx(sampled / seconds)
    assert s.trained_per_s == pytest.approx(learner[-1]["tokens"] / seconds)


def test_actor_idle_is_weighted_by_time_and_counters_survive_a_restart(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run")
    rows = [
        # 10 s at 0.1, 30 s at 0.5; the first row counts as the average interval, 20 s at 0.9.
        {"wall_s": 5.0, "actor/idle_frac": 0.9, "tokens/sampled": 100},
        {"wall_s": 15.0, "actor/idle_frac": 0.1, "tokens/sampled": 250},
        {"wall_s": 45.0, "actor/idle_frac": 0.5, "tokens/sampled": 40},  # restarted
    ]
    write_rows(run, "actor_000", rows)
    write_rows(run, "actor_001", [{"wall_s": 9.0, "actor/idle_frac": 0.3, "tokens/sampled": 7}])
    s = summarize(RunView(run))
    first = (20 * 0.9 + 10 * 0.1 + 30 * 0.5) / 60
    assert s.actor_idle_frac == pytest.approx((first + 0.3) / 2)
    assert s.tokens_sampled == 250 + 40 + 7


@pytest.mark.parametrize(
    ("overrides", "kept", "text"),
    [
        ({}, True, "yes"),
        (
            {7: {"staleness/max": 5}, 9: {"staleness/max": 6}},
            False,
            "no: exceeded at 2 of 20 steps, first at step 7",
        ),
        ({7: {"staleness/max": None}}, None, "unknown: not recorded at 1 steps"),
        (
            {7: {"staleness/max": None}, 8: {"staleness/max": 5}},
            False,
            "no: exceeded at 1 of 20 steps, first at step 8",
        ),
    ],
)
def test_whether_the_bound_was_kept(
    tmp_path: Path, overrides: dict[int, dict[str, Any]], kept: bool | None, text: str
) -> None:
    run = make_run(tmp_path / "run", steps=20, overrides=overrides)
    summary = summarize(RunView(run))
    assert summary.bound_kept is kept
    assert bound_text(summary) == text
    assert ("bound kept at every step", text) in lines(summary)


def test_a_violation_counts_even_if_a_restore_undid_the_step(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run")
    row = {"staleness/bound": 4, "policy_version": 0}
    write_rows(run, "learner", [{**row, "step": 2, "staleness/max": 5}])
    write_rows(run, "learner", [{**row, "step": s, "staleness/max": 1} for s in (1, 2)])
    assert summarize(RunView(run)).over_bound == [2]


def printed(run: RunDir) -> str:
    stream = io.StringIO()
    print_summary(run.root, stream)
    return stream.getvalue()


def test_the_table(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=60)
    run.report.write_text("")
    evals = read_rows(run.metrics_file("eval"))
    best = max(evals, key=lambda row: row["eval/accuracy"])
    table = [" ".join(line.split()) for line in printed(run).splitlines()]
    assert f"held-out accuracy first v0 last v60 best v{best['policy_version']}" in table
    for title, name in (("all levels", ""), ("level 1", "/level_1"), ("level 5", "/level_5")):
        cells = [f"{row['eval/accuracy' + name]:.3f}" for row in (evals[0], evals[-1], best)]
        assert f"{title} {' '.join(cells)}" in table
    assert "optimizer steps 60 of 60, up to version 60" in table
    assert "bound kept at every step yes" in table
    assert f"report: {run.report}" in table


def test_the_table_of_a_run_that_wrote_nothing(tmp_path: Path) -> None:
    text = printed(RunDir.create(tmp_path / "run"))
    assert "optimizer steps" in text and "unknown: not recorded at any steps" in text
    assert "nan" not in text.lower() and "None" not in text
