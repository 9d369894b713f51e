"""The rollouts of a draw that are kept, as rows."""

import json
from pathlib import Path
from typing import Any

import pytest

from async_r1.run_dir import RunDir
from async_r1.types import FinishReason
from buffer.groups import ClosedGroup
from buffer.recorder import record_extremes
from buffer.rollout import Rollout
from tests.buffer.fakes import closed_group, lease_to, make_prompt, make_segment


def record(path: Path, groups: list[ClosedGroup], count: int) -> list[dict[str, Any]]:
    run_dir = RunDir.create(path)
    record_extremes(run_dir, 7, groups, count)
    lines = run_dir.rollouts_file(7).read_text().splitlines()
    return [json.loads(line) for line in lines]


def five_rollouts() -> list[ClosedGroup]:
    return [
        closed_group(0, [0.5, 0.1], versions=[[1, 1, 2], [0, 0, 0]]),
        closed_group(1, [0.9, 0.3, 0.0]),
    ]


def test_best_and_worst(tmp_path: Path) -> None:
    rows = record(tmp_path, five_rollouts(), 2)
    assert [(row["rewards"]["total"], row["kept"]) for row in rows] == [
        (0.9, ["best", "most leases", "longest"]),  # of equals the best
        (0.5, ["best", "most versions"]),
        (0.1, ["worst"]),
        (0.0, ["worst"]),
    ]
    assert rows[1] == {
        "rollout_id": 0,
        "prompt_id": "train/0",
        "level": 1,
        "prompt": "0=?",
        "text": "text of 0",
        "rewards": {"total": 0.5, "task": 0.5},
        "error": "",
        "num_tokens": 3,
        "token_ids": [0, 1, 2],
        "versions": [[1, 2], [2, 1]],
        "leases": [["a", 3]],
        "swaps": [],
        "truncated": False,
        "kept": ["best", "most versions"],
    }


@pytest.mark.parametrize(("count", "best", "worst"), [(0, 0, 0), (3, 3, 2), (5, 5, 0), (9, 5, 0)])
def test_no_rollout_is_both(tmp_path: Path, count: int, best: int, worst: int) -> None:
    rows = record(tmp_path, five_rollouts(), count)
    assert sum("best" in row["kept"] for row in rows) == best
    assert sum("worst" in row["kept"] for row in rows) == worst
    assert len({row["rollout_id"] for row in rows}) == len(rows) == (5 if count else 0)


def suspended_twice() -> Rollout:
    """Seven tokens under three leases of two actors; the weights change inside the second."""
    rollout = Rollout(rollout_id=70, group_id=0, member=0, prompt=make_prompt(0))
    done: list[int] = []
    parts = [
        (b"actor_000/1", [5, 6], [3, 3], ()),
        (b"actor_001/9", [7, 8, 9], [4, 4, 5], (4,)),
        (b"actor_000/1", [4, 2], [6, 6], ()),
    ]
    for holder, tokens, versions, swaps in parts:
        lease = lease_to(rollout, holder)
        segment = make_segment(
            tokens,
            prefix=done,
            versions=versions,
            swaps=swaps,
            suspend=len(done) < 5,
            finish=FinishReason.STOP if len(done) == 5 else None,
            rollout_id=70,
            lease_epoch=lease.lease_epoch,
        )
        rollout.accept(segment, holder, versions[-1])
        done += tokens
    rollout.score(3, {"total": 0.4, "task": 0.0}, "seven")
    return rollout


def test_leases_and_swaps_of_a_suspended_rollout(tmp_path: Path) -> None:
    group = closed_group(0, [0.5, 0.4, 0.1])
    group.rollouts[1] = suspended_twice()
    rows = {row["rollout_id"]: row for row in record(tmp_path, [group], 1)}
    assert rows[70]["leases"] == [["actor_000", 2], ["actor_001", 3], ["actor_000", 2]]
    assert rows[70]["versions"] == [[3, 2], [4, 2], [5, 1], [6, 2]]
    assert rows[70]["swaps"] == [4]
    assert rows[70]["token_ids"] == [5, 6, 7, 8, 9, 4, 2]
    assert rows[70]["kept"] == ["most versions", "most leases", "longest"]
    assert len(rows) == 3


def test_rollouts_whose_reward_failed_are_kept_with_their_error(tmp_path: Path) -> None:
    failed = []
    for rollout_id in (71, 72, 73):
        rollout = Rollout(rollout_id=rollout_id, group_id=0, member=0, prompt=make_prompt(0))
        lease_to(rollout, b"a")
        rollout.accept(make_segment([5], finish=FinishReason.STOP, rollout_id=rollout_id), b"a", 0)
        rollout.score(1, {}, "six", "took more than 10 s")
        failed.append(rollout)
    run_dir = RunDir.create(tmp_path)
    record_extremes(run_dir, 1, [], 2, failed)
    rows = [json.loads(line) for line in run_dir.rollouts_file(1).read_text().splitlines()]
    assert [(row["rollout_id"], row["rewards"], row["text"]) for row in rows] == [
        (71, {}, "six"),
        (72, {}, "six"),
    ]
    assert all(row["error"] == "took more than 10 s" for row in rows)
    assert all(row["kept"] == ["reward error"] for row in rows)
