"""`async_r1 journal` against what really happened: runs of the simulation, journaled."""

import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from async_r1 import cli, journal_history
from async_r1.journal_history import read_history
from async_r1.journal_tables import Tables
from async_r1.run_dir import RunDir, write_json
from async_r1.schema import to_dict
from async_r1.types import LeaseKind
from buffer.fates import Fate
from buffer.journal import FileJournal
from buffer.snapshot import snapshot
from tests.buffer.fakes import make_config
from tests.buffer.simulation import World

ETA = 2


def journaled_world(path: Path, seed: int, overdue: str, **buffer: Any) -> tuple[World, RunDir]:
    """A run of 25 steps whose journal is still open, as that of a live run is."""
    buffer = {"group_size": 3, "min_rollouts": 2, "group_deadline_versions": 3, **buffer}
    config = make_config(
        buffer=buffer,
        learner={"groups_per_update": 2},
        actors={"max_concurrent": 4, "rollout_token_budget": 5, "segment_tokens": 3},
        staleness={"eta": ETA, "overdue": overdue},
    )
    world = World(
        config=config,
        seed=seed,
        lengths=lambda rng: int(np.ceil(rng.lognormal(2.0, 0.8))),
        zero_variance=0.2,
        failures=0.05,
        turbulence=0.02,
    )
    run = RunDir(path)
    run.config.mkdir(parents=True)
    write_json(run.resolved, {"config": to_dict(config)})
    world.core._state.journal = FileJournal(run.journal)
    world.run(25)
    world.core._state.journal.flush()
    return world, run


CASES: list[tuple[str, dict[str, Any]]] = [
    ("mask", {}),
    ("drop", {"max_size": 2}),
    ("mask", {"item": "rollout", "sampler": "prioritized"}),
]


@pytest.fixture(scope="module", params=range(len(CASES)))
def simulated(request: pytest.FixtureRequest, tmp_path_factory: Any) -> tuple[World, RunDir]:
    overdue, buffer = CASES[request.param]
    path = tmp_path_factory.mktemp("run") / "RUN"
    return journaled_world(path, request.param, overdue, **buffer)


def tables_of(run: RunDir) -> Tables:
    history = read_history(run.journal)
    assert history.problems == []
    return Tables(history, json.loads(run.resolved.read_text())["config"])


def test_who_trained_on_what_at_which_version(simulated: tuple[World, RunDir]) -> None:
    world, run = simulated
    found = {
        (row["batch_id"], row["rollout_id"]): (
            *(row["step"], row["version"], row["group_id"], row["prompt_id"]),
            *(row["num_tokens"], row["inside_bound"], row["max_staleness"], row["state"]),
        )
        for row in tables_of(run).rows("trained")
    }
    expected = {}
    for step, batch in enumerate(world.batches, 1):
        ends = np.cumsum(batch.completion_lens)
        for i, rollout_id in enumerate(batch.rollout_ids.tolist()):
            part = slice(ends[i] - batch.completion_lens[i], ends[i])
            truth = world.truths[rollout_id]
            expected[batch.batch_id, rollout_id] = (
                *(step, batch.policy_version, truth.group_id, truth.prompt_id),
                *(len(truth.tokens), int(batch.mask[part].sum())),
                *(batch.policy_version - min(truth.versions), "trained"),
            )
    assert found == expected


def test_rollouts_are_what_was_sampled(simulated: tuple[World, RunDir]) -> None:
    world, run = simulated
    tables = tables_of(run)
    spans: dict[int, list[int]] = {}
    for row in tables.rows("spans"):
        assert row["token_offset"] == len(spans.setdefault(row["rollout_id"], []))
        spans[row["rollout_id"]] += [row["version"]] * row["num_tokens"]
    rollouts = {row["rollout_id"]: row for row in tables.rows("rollouts")}
    trained = {int(i) for batch in world.batches for i in batch.rollout_ids}
    assert len(trained) > 50
    for rollout_id in trained:
        truth = world.truths[rollout_id]
        assert spans[rollout_id] == truth.versions
        assert rollouts[rollout_id]["rewards"] == truth.rewards
        assert rollouts[rollout_id]["finish_reason"] == "stop"
    for rollout_id, rollout in world.core.book.rollouts.items():
        row = rollouts[rollout_id]
        assert row["num_tokens"] == rollout.num_tokens
        assert row["fate"] == str(rollout.state) or rollout.state == "leased"
        assert row["prompt_id"] == rollout.prompt.prompt_id
        assert row["level"] == rollout.prompt.level


def test_leases_are_those_that_were_granted(simulated: tuple[World, RunDir]) -> None:
    world, run = simulated
    granted = {
        (lease.rollout_id, lease.lease_epoch): name.decode().split("/")[0]
        for name, leases in world.grants
        for lease in leases
        if lease.kind is not LeaseKind.EVAL
    }
    rows = [row for row in tables_of(run).rows("leases") if row["kind"] == "train"]
    found = {(row["rollout_id"], row["lease_epoch"]): row["holder"] for row in rows}
    assert granted.items() <= found.items()  # some are on their way
    assert any(row["token_offset"] for row in rows), "no rollout was continued"
    assert {"suspended", "finished", "released"} <= {row["end"] for row in rows}


def test_fates_agree_with_the_accounting_of_the_buffer(simulated: tuple[World, RunDir]) -> None:
    world, run = simulated
    row = world.core.stats.selection.take_row(world.version)
    tables = tables_of(run)
    closed = {group["group_id"] for group in tables.rows("groups") if group["closed"]}
    found = Counter(
        rollout["fate"]
        for rollout in tables.rows("rollouts")
        if rollout["num_tokens"] and rollout["group_id"] in closed
    )
    for fate, rollout_ids in world.core.stats.selection.take_left().items():
        found[fate] += len(rollout_ids)  # since the last record
        found["kept"] -= len(rollout_ids)
    for fate in Fate:
        if fate in (Fate.TRAINED, Fate.MASKED):
            continue
        assert found[fate] == sum(row.get(f"selection/{fate}_rollouts/by_length", [])), fate
    both = sum(
        sum(row.get(f"selection/{fate}_rollouts/by_length", []))
        for fate in (Fate.TRAINED, Fate.MASKED)
    )
    assert found["trained"] == both > 0
    assert found["kept"] == row["selection/waiting_rollouts"]


def test_after_a_compaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a reader is at it, too: it begins again with the snapshot."""
    world, run = journaled_world(
        tmp_path / "RUN", 3, "mask", sampler="uniform", max_times_sampled=3
    )
    live = world.core.state.journal
    assert isinstance(live, FileJournal)
    read_file, missing = journal_history.read_file, []

    def compacted_first(path: Path, *args: Any, **kwargs: Any) -> Any:
        if not missing:
            missing.append(path)
            live.compact(snapshot(world.core))
        return read_file(path, *args, **kwargs)

    monkeypatch.setattr(journal_history, "read_file", compacted_first)
    tables = tables_of(run)
    assert missing and not missing[0].exists()
    rollouts = {row["rollout_id"]: row for row in tables.rows("rollouts")}
    open_ones = world.core.book.rollouts.items()
    kept = [(r.rollout_id, r) for g in world.core.drawing.items().values() for r in g.rollouts]
    assert open_ones and kept
    for rollout_id, rollout in (*open_ones, *kept):
        row = rollouts[rollout_id]
        assert (row["prompt_id"], row["level"]) == (rollout.prompt.prompt_id, rollout.prompt.level)
        assert (row["num_tokens"], row["rewards"]) == (rollout.num_tokens, rollout.rewards)
    assert all(rollouts[rollout_id]["fate"] in ("kept", "trained") for rollout_id, _ in kept)
    before = len(world.batches)
    world.run(world.step + 5)
    live.flush()
    batches = {row["batch_id"] for row in tables_of(run).rows("trained")}
    assert batches == {batch.batch_id for batch in world.batches[before:]}


def test_sql_over_a_live_run(
    simulated: tuple[World, RunDir], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its journal is open and goes on; the database has what was written so far."""
    world, run = simulated
    path = tmp_path / "run.sqlite"
    assert cli.main(["journal", str(run.root), "--sqlite", str(path)]) == 0
    assert capsys.readouterr().err == ""
    with sqlite3.connect(path) as database:
        question = "SELECT version, SUM(inside_bound) FROM trained GROUP BY version"
        found = dict(database.execute(question))
    expected: Counter[int] = Counter()
    for batch in world.batches:
        expected[batch.policy_version] += int(batch.mask.sum())
    assert found == expected
