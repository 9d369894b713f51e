"""RunView against numbers computed here from the rows as written."""

import json
import random
import statistics
from pathlib import Path

import pytest

from async_r1.metrics import read_rows
from async_r1.run_dir import RunDir
from async_r1.view import ACTOR_GONE_VERSIONS, SMOOTHING_STEPS, RunView
from tests.async_r1.synthetic_run import (
    STARTED_AT,
    STEP_S,
    make_run,
    wall_s,
    write_role,
    write_rows,
)


def test_numbers_of_a_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=42, total_steps=100, actors=3)
    learner = read_rows(run.metrics_file("learner"))
    actors = [read_rows(run.metrics_file(f"actor_{i:03d}"))[-1] for i in range(3)]
    view = RunView(run)

    assert (view.step, view.version) == (42, 42)
    assert view.latest("reward/mean") == learner[-1]["reward/mean"]
    rewards = [row["reward/mean"] for row in learner[-SMOOTHING_STEPS:]]
    assert view.smoothed("reward/mean") == pytest.approx(sum(rewards) / len(rewards))
    assert view.actor_sum("perf/tokens_per_s") == pytest.approx(
        sum(row["perf/tokens_per_s"] for row in actors)
    )
    assert view.actor_mean("actor/idle_frac") == pytest.approx(
        statistics.fmean(row["actor/idle_frac"] for row in actors)
    )
    assert view.evals == read_rows(run.metrics_file("eval"))
    assert view.option("learner.num_updates") == 100
    assert view.option("learner.nothing", 7) == 7


def test_a_directory_without_files_is_an_empty_view(tmp_path: Path) -> None:
    view = RunView(tmp_path / "nothing")
    assert (view.step, view.version, view.steps, view.evals) == (0, 0, [], [])
    assert view.latest("reward/mean") is None
    assert view.smoothed("reward/mean") is None
    assert view.actor_sum("perf/tokens_per_s") is None
    assert view.actor_mean("actor/idle_frac") is None
    assert view.time_left_s() is None
    assert view.elapsed_s() == 0.0
    assert view.roles() == []
    assert view.status == {}


def test_follows_files_and_leaves_half_a_line_for_later(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run")
    view = RunView(run)
    assert not view.refresh()
    row = {"wall_s": 1.0, "step": 1, "policy_version": 0, "reward/mean": 0.5}
    line = json.dumps(row) + "\n"
    path = run.metrics_file("learner")
    for cut in range(1, len(line)):
        path.write_text(line[:cut])
        assert not view.refresh()
        assert view.steps == []
    path.write_text(line)
    assert view.refresh()
    assert view.steps == [row]
    assert not view.refresh()


def test_damaged_lines_are_counted_and_skipped(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run")
    good = [{"step": step, "policy_version": step - 1} for step in (1, 2)]
    # A process killed while it wrote, then restarted: two rows in one line.
    torn = '{"step": 2, "rew' + json.dumps(good[1])
    lines = [json.dumps(good[0]), torn, "[1, 2]", json.dumps(good[1])]
    run.metrics_file("learner").write_text("\n".join(lines) + "\n")
    view = RunView(run)
    assert view.steps == good
    assert view.damaged_lines == 2


def test_missing_keys_and_what_is_not_finite_are_none(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run")
    run.metrics_file("learner").write_text(
        '{"step": 1, "policy_version": 0, "reward/mean": 1.0}\n'
        '{"step": 2, "policy_version": 1, "reward/mean": NaN}\n'
        '{"step": 3, "policy_version": 2, "reward/mean": Infinity}\n'
    )
    view = RunView(run)
    assert view.latest("reward/mean") is None
    assert view.latest("staleness/mean") is None
    assert view.smoothed("reward/mean") == 1.0


def test_a_restore_takes_undone_steps_and_their_evals_out(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run")
    # Steps 1..5 of versions 0..4, then back to the checkpoint of version 3, published as 6.
    first = [{"step": s, "policy_version": s - 1, "wall_s": float(s)} for s in range(1, 6)]
    second = [{"step": s, "policy_version": s + 2, "wall_s": s + 10.0} for s in range(4, 8)]
    write_rows(run, "learner", first + second)
    evals = [{"step": 9, "policy_version": v, "eval/accuracy": v / 10} for v in (0, 3, 4, 5, 6, 8)]
    write_rows(run, "eval", evals)
    view = RunView(run)
    assert [row["step"] for row in view.steps] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["policy_version"] for row in view.steps] == [0, 1, 2, 6, 7, 8, 9]
    # Version 3 is the restored checkpoint; 4 and 5 were given up with their steps.
    assert [row["policy_version"] for row in view.evals] == [0, 3, 6, 8]
    assert view.streams["learner"] == first + second


@pytest.mark.parametrize("per_publish", [1, 3])
def test_step_of_version(tmp_path: Path, per_publish: int) -> None:
    run = make_run(tmp_path / "run", steps=1, total_steps=100)
    resolved = json.loads(run.resolved.read_text())
    resolved["config"]["learner"]["updates_per_publish"] = per_publish
    run.resolved.write_text(json.dumps(resolved))
    rows = [{"step": s, "policy_version": (s - 1) // per_publish} for s in range(1, 13)]
    run.metrics_file("learner").write_text("")
    for known in (0, 6, 12):  # versions beyond the rows read so far are counted on
        run.metrics_file("learner").write_text("".join(json.dumps(r) + "\n" for r in rows[:known]))
        view = RunView(run)
        for version in range(12 // per_publish + 1):
            assert view.step_of_version(version) == version * per_publish, (known, version)


def test_time_left_survives_evals_bursts_and_restarts(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=1, total_steps=100)
    run.metrics_file("learner").write_text("")
    for stream in ("eval", "buffer", "actor_000", "actor_001"):
        run.metrics_file(stream).unlink()
    rng = random.Random(0)
    rows, now = [], 10.0
    for step in range(1, 61):
        now += 6.0 if step % 3 == 0 else 0.1  # three steps to a version, in a burst
        now += 30.0 if rng.random() < 0.1 else 0.0  # an eval
        rows.append({"step": step, "policy_version": (step - 1) // 3, "wall_s": now})
    write_rows(run, "learner", rows)
    view = RunView(run)
    assert view.step_seconds() == pytest.approx(6.2 / 3)
    assert view.time_left_s(STARTED_AT + now) == pytest.approx(40 * 6.2 / 3)
    assert view.time_left_s(STARTED_AT + now + 1.0) == pytest.approx(40 * 6.2 / 3 - 1.0)
    # A step that hangs does not count the rest of the run down.
    assert view.time_left_s(STARTED_AT + now + 500.0) == pytest.approx(39 * 6.2 / 3)


def test_time_left_from_the_first_row_and_at_the_end(tmp_path: Path) -> None:
    one = RunView(make_run(tmp_path / "one", steps=1, total_steps=11))
    into_step = one.recorded_s - wall_s(1)  # the actors wrote after the learner did
    assert one.time_left_s(STARTED_AT) == pytest.approx(10 * STEP_S - into_step)
    assert RunView(make_run(tmp_path / "all", steps=30)).time_left_s(STARTED_AT) == 0.0


def test_elapsed_stops_when_the_run_has_ended(tmp_path: Path) -> None:
    live = RunView(make_run(tmp_path / "live", steps=5, total_steps=9))
    assert live.elapsed_s(STARTED_AT + 900.0) == 900.0
    ended = RunView(make_run(tmp_path / "ended", steps=5))
    assert ended.elapsed_s(STARTED_AT + 900.0) == ended.recorded_s
    assert ended.recorded_s == pytest.approx(wall_s(5) + 0.1)


def test_an_actor_that_left_counts_no_more(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run")
    write_rows(run, "actor_000", [{"policy_version": 3, "perf/tokens_per_s": 100.0}])
    for newest, expected in (
        (3 + ACTOR_GONE_VERSIONS, 150.0),
        (4 + ACTOR_GONE_VERSIONS, 50.0),
    ):
        write_rows(run, "actor_001", [{"policy_version": newest, "perf/tokens_per_s": 50.0}])
        assert RunView(run).actor_sum("perf/tokens_per_s") == expected


def test_roles_say_what_they_wait_for_and_for_how_long(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=1, total_steps=9, actors=2)
    for path in run.roles.iterdir():
        path.unlink()
    view = RunView(run)
    at = STARTED_AT + 20
    assert [(r.name, r.state, r.age_s) for r in view.roles(at)] == [
        (name, "not started", 20.0) for name in ("buffer", "learner_000", "actor_000", "actor_001")
    ]
    write_role(run, "buffer", "running", "listening", STARTED_AT + 1)
    write_role(run, "learner_000", "waiting", "2 actors to join", STARTED_AT + 5)
    write_role(run, "actor_000", "starting", "loading nano into vLLM", STARTED_AT + 8)
    write_role(run, "actor_001", "waiting", "", STARTED_AT + 9)
    write_role(run, "relay", "done", "", STARTED_AT + 9)
    assert [(r.text, r.age_s) for r in view.roles(at)] == [
        ("running: listening", 19.0),
        ("waiting for 2 actors to join", 15.0),
        ("starting: loading nano into vLLM", 12.0),
        ("waiting", 11.0),
        ("done", 11.0),
    ]


def test_repeating_a_status_does_not_make_it_younger(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run")
    view = RunView(run)
    for since in (100.0, 110.0, 120.0):
        write_role(run, "learner_000", "waiting", "a batch", since)
        (role,) = view.roles(now=130.0)
        assert role.age_s == 30.0
    write_role(run, "learner_000", "running", "step 2", 125.0)
    assert view.roles(now=130.0)[0].age_s == 5.0
    write_role(run, "learner_000", "waiting", "a batch", 128.0)
    assert view.roles(now=130.0)[0].age_s == 2.0
