"""`async_r1 journal` over a journal written by hand: every table, its text word for word."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from async_r1 import cli
from async_r1.journal_format import record_parts
from async_r1.journal_tables import TABLES, columns
from async_r1.run_dir import RunDir
from async_r1.wire import Message, encode
from tests.async_r1.synthetic_journal import MESSAGES, A, B, draw, write_journal
from tests.async_r1.synthetic_run import make_run


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """eta = 4."""
    run = make_run(tmp_path / "run", steps=2)
    write_journal(run.journal)
    return run


def journal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert cli.main(["journal", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def rows(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    return [json.loads(line) for line in journal(capsys, *arguments, "--json").splitlines()]


def test_summary(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert journal(capsys, run.root).splitlines()[1:] == [
        "records   17: 5 segment, 2 group_opened, 2 leases, 2 score, 2 draw, 1 group_closed, "
        "1 released, 1 draw_refunded, 1 step_done",
        "prompts   2",
        "groups    2, 1 of them closed",
        "rollouts          2 trained, 13 tokens",
        "                  1 suspended, 5 tokens",
        "                  1 pending, 0 tokens",
        "leases    4, 1 of them continued a rollout; actor_000 2, actor_001 2",
        "draws     1 refunded, 1 trained",
        "steps     1, up to version 6",
    ]
    (summary,) = rows(capsys, run.root)
    assert summary["rollouts"]["trained"] == {"rollouts": 2, "tokens": 13}
    assert sum(kind["bytes"] for kind in summary["records"].values()) == summary["file_bytes"]


def test_rollouts(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, run.root, "rollouts")
    assert [row["fate"] for row in found] == ["trained", "trained", "suspended", "pending"]
    assert found[0] == {
        "rollout_id": 0, "group_id": 0, "member": 0, "prompt_id": "train/7", "level": 2,
        "num_prompt_tokens": 3, "num_tokens": 10, "first_version": 0, "last_version": 2,
        "num_versions": 3, "num_segments": 3, "num_leases": 2, "holders": "actor_000 actor_001",
        "finish_reason": "stop", "reward_task": 1.0, "reward_total": 1.1,
        "rewards": {"task": 1.0, "total": 1.1}, "error": "", "fate": "trained",
        "text": "so it is 8",
    }  # fmt: skip


def test_one_rollout_in_full(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    text = journal(capsys, run.root, "--rollout", 0)
    assert text.endswith(
        """
leases
rollout_id  group_id  lease_epoch  kind   holder     version  token_offset  num_tokens  end
         0         0            1  train  actor_000        0             0           7  suspended
         0         0            2  train  actor_001        1             7           3  finished

spans
rollout_id  group_id  token_offset  num_tokens  version
         0         0             0           5        0
         0         0             5           4        1
         0         0             9           1        2

trained
batch_id  step  version  group_id  rollout_id  prompt_id  inclusion_prob  num_tokens  """
        """inside_bound  max_staleness  state
       1     -        3         0           0  train/7              0.25          10  """
        """          10              3  refunded
       2     1        5         0           0  train/7              0.75          10  """
        """           5              5  trained

text
so it is 8
"""
    )


def test_draws_have_priorities_and_probabilities(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert journal(capsys, run.root, "draws", "--version", "4..9").splitlines() == [
        "batch_id  version  item_id  num_rollouts  group_id  priority  inclusion_prob  state    "
        "step",
        "       2        5        0             2         0       0.5            0.75  trained  "
        "   1",
    ]


def test_groups_and_prompts(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = rows(capsys, run.root, "groups")
    assert first["right"] == 1 and first["times_trained"] == 1
    assert first["reward_mean"] == pytest.approx(0.6) and first["reward_std"] == pytest.approx(0.5)
    assert second["closed"] == 0 and second["reward_mean"] is None and second["num_tokens"] == 5
    (prompt,) = rows(capsys, run.root, "prompts", "--prompt", "train/7")
    assert prompt["scored"] == 2 and prompt["trained"] == 2 and prompt["mean_tokens"] == 6.5


@pytest.mark.parametrize(
    ("arguments", "column", "values"),
    [
        (("rollouts", "--group", "1"), "rollout_id", [2, 3]),
        (("rollouts", "--version", "1"), "rollout_id", [0, 2]),
        (("spans", "--version", "2..7"), "rollout_id", [0]),
        (("leases", "--rollout", "2"), "end", ["released"]),
        (("steps",), "policy_version", [6]),
        (("draws", "--version", "9"), "batch_id", []),
        (("--prompt", "train/9"), "rollout_id", [2, 3]),
    ],
)
def test_filters(
    run: RunDir,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    column: str,
    values: list[Any],
) -> None:
    assert [row[column] for row in rows(capsys, run.root, *arguments)] == values


def test_every_table_has_the_columns_that_it_declares(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    for table in TABLES:
        found = rows(capsys, run.root, table)
        assert found and all(list(row) == columns(table) for row in found), table
        head, *lines = journal(capsys, run.root, table, "--limit", "1").splitlines()
        assert set(head.split()) <= set(columns(table))
        assert len(lines) == (1 if len(found) == 1 else 2)


def test_sqlite_answers_what_no_option_asks(
    run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "journal.sqlite"
    assert "4 rollouts" in journal(capsys, run.root, "--sqlite", path)
    database = sqlite3.connect(path)
    question = """
        SELECT r.level, SUM(t.inside_bound) FROM trained t JOIN rollouts r USING (rollout_id)
        WHERE t.state = 'trained' GROUP BY r.level"""
    assert database.execute(question).fetchall() == [(2, 5)]
    for table in TABLES:
        names = [column[0] for column in database.execute(f"SELECT * FROM {table}").description]
        assert names == columns(table)
        (number,) = database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()
        assert number == len(rows(capsys, run.root, table))
    database.close()
    assert cli.main(["journal", str(run.root), "--sqlite", str(path)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_journal_torn_anywhere_is_told_as_far_as_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = write_journal(tmp_path)
    (file,) = tmp_path.glob("*.log")
    data = file.read_bytes()
    for size in [*range(0, len(data), 37), *ends[:-1], *(end - 1 for end in ends)]:
        file.write_bytes(data[:size])
        (summary,) = rows(capsys, tmp_path)
        whole = sum(end <= size for end in ends)
        assert sum(kind["records"] for kind in summary["records"].values()) == whole
        assert bool(summary["problems"]) == (size not in (0, *ends))


def test_damage_is_told_and_costs_what_it_covers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the second segment of rollout 0, and of the record that opened group 1."""
    for lost, told in ((4, "rollout 0 lacks tokens 4 to 6"), (2, "damage at byte")):
        ends = write_journal(tmp_path)
        (file,) = tmp_path.glob("*.log")
        data = bytearray(file.read_bytes())
        data[ends[lost] - 3] ^= 1
        file.write_bytes(data)
        (summary,) = rows(capsys, tmp_path)
        assert any(told in problem for problem in summary["problems"])
        assert any("damage at byte" in problem for problem in summary["problems"])
        assert sum(kind["records"] for kind in summary["records"].values()) == len(MESSAGES) - 1
        assert summary["rollouts"]["trained"]["rollouts"] == 2
        for table in TABLES:
            rows(capsys, tmp_path, table)


def test_a_record_that_makes_no_sense_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MESSAGES[9][1].values, "rewards", None)  # type: ignore[arg-type]
    write_journal(tmp_path)
    (summary,) = rows(capsys, tmp_path)
    (problem,) = summary["problems"]
    assert problem.startswith("record score at byte") and "makes no sense" in problem


def test_after_a_compaction_the_snapshot_tells_what_was_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log begins at byte 5000; the older of two snapshots is not read."""
    known = {"group_id": 7, "member": 0, "lease_epoch": 2, "leased_version": 3, "error": "",
             "holder": None, "finish_reason": "stop", "text": "done",
             "state": "scored"}  # fmt: skip
    kept = Message("kept_rollout", {**known, "rollout_id": 40, "spans": [[1, 4], [3, 2]],
                                    "rewards": {"task": 1.0, "total": 1.0},
                                    "lease_starts": [[0, A], [4, B]]})  # fmt: skip
    item = Message("kept_item", {"item_id": 7, "group_id": 7, "rollouts": [40],
                                 "prompt_id": "train/3", "level": 1})  # fmt: skip
    drawn = draw(9, 4, 1.0)
    drawn.values["rollout_ids"][0][:] = [40]
    for name, messages in (
        ("4000.snapshot", [Message("kept_rollout", {"rollout_id": 99})]),
        ("5000.snapshot", [Message("snapshot"), kept, item, Message("snapshot_end")]),
        ("5000.log", [drawn]),
    ):
        records = [b"".join(record_parts(encode(message))) for message in messages]
        stem, _, kind = name.partition(".")
        (tmp_path / f"{int(stem):020d}.{kind}").write_bytes(b"".join(records))
    (summary,) = rows(capsys, tmp_path)
    assert summary["begin"] == 5000 and summary["problems"] == []
    assert "from byte 5,000 on: what was before is compacted" in journal(capsys, tmp_path)
    (rollout,) = rows(capsys, tmp_path, "rollouts")
    assert rollout["fate"] == "drawn" and rollout["prompt_id"] == "train/3"
    assert (rollout["num_tokens"], rollout["num_versions"], rollout["text"]) == (6, 2, "done")
    (trained,) = rows(capsys, tmp_path, "trained")
    assert (trained["rollout_id"], trained["max_staleness"]) == (40, 3)
    (lease,) = rows(capsys, tmp_path, "leases")
    assert (lease["holder"], lease["token_offset"], lease["num_tokens"]) == ("actor_001", 4, 2)


def test_many_problems_are_told_in_a_few_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = (b"", Message("score", {"rollout_id": 0}))
    monkeypatch.setattr("tests.async_r1.synthetic_journal.MESSAGES", [*MESSAGES, *[bad] * 30])
    write_journal(tmp_path)
    assert cli.main(["journal", str(tmp_path), "steps"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11 and lines[-1] == "warning: and 20 more problems"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN"], "there is no journal in"),
        (["RUN", "--version", "3-4"], "--version must be"),
    ],
)
def test_misuse_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert cli.main(["journal", str(tmp_path), *arguments[1:]]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_closed_pipe_is_no_error(run: RunDir) -> None:
    command = f"{sys.executable} -m async_r1 journal {run.root} spans --json | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout == "{" and "Traceback" not in done.stderr
