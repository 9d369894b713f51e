"""Rollouts whose reward failed: counted, logged, recorded, and left out of their group."""

import logging
from typing import Any

import pytest

from async_r1.errors import TrainingError
from async_r1.rewards import length_rewards
from async_r1.types import Lease
from buffer.groups import ClosePolicy, close
from buffer.rollout import RolloutState
from tests.buffer.desk import LEARNER, Desk, batch_of
from tests.buffer.fakes import make_config
from tests.buffer.test_groups import group_of

VALUE = "ValueError: no digits in 'x' (/home/me/reward.py:12)"
TIMEOUT = "took more than 10 s"


def desk_of(**sections: Any) -> Desk:
    """One group of four per batch; three scored members are enough."""
    sections.setdefault("buffer", {})
    sections["buffer"] = {"group_size": 4, "min_rollouts": 3, **sections["buffer"]}
    desk = Desk(make_config(learner={"groups_per_update": 1}, staleness={"eta": 1}, **sections))
    desk.join()
    return desk


def members(desk: Desk, received: int = 0) -> list[Lease]:
    return desk.request(4, received=received)


def test_a_group_closes_over_its_other_members() -> None:
    desk = desk_of()
    leases = members(desk)
    desk.finish(leases[0], 1.0, num_tokens=2)
    desk.finish(leases[1], 9.0, error=VALUE)
    desk.finish(leases[2], 0.0, num_tokens=4)
    assert desk.core.book.num_live  # it still waits for the last one
    desk.finish(leases[3], 0.5)
    batch = batch_of(desk.send(LEARNER, "batch_request", policy_version=0))
    assert batch.rollout_ids.tolist() == [0, 2, 3]
    assert batch.advantages.tolist() == [0.5, -0.5, 0.0]
    assert batch.info["accuracy/mean"] == 1 / 3 and batch.info["completion_length/mean"] == 7 / 3
    ((step, groups, failed),) = desk.recorded
    assert (step, len(groups)) == (1, 1)
    assert [(r.rollout_id, r.error, r.text) for r in failed] == [(1, VALUE, "text 1")]
    desk.train(version=1, step=1)
    row = desk.rows[0][1]
    assert row["reward/errors"] == 1 and row["reward/timeouts"] == row["groups/failed"] == 0
    assert row["groups/expired"] == 0 and row["reward/mean"] == 0.5


def test_with_too_few_left_it_leaves_untrained_and_its_slot_comes_back() -> None:
    desk = desk_of(buffer={"refill_max": 1})
    for lease, error in zip(members(desk), [VALUE, TIMEOUT, "", ""], strict=True):
        desk.finish(lease, float(lease.member), error=error)
    admission = desk.core.drawing.admission
    assert admission.leased == 0 and admission.closed == set()  # refilled
    for lease in members(desk, received=4):
        desk.finish(lease, 1.0, error=VALUE)
    assert admission.closed == set() and admission.leased == 0  # a barren quota, given back
    desk.train(version=1, step=1)
    row = desk.rows[0][1]
    assert row["groups/failed"] == 2 == row["groups/closed"] and row["groups/zero_variance"] == 0
    assert row["reward/errors"] == 6 and row["reward/timeouts"] == 1
    assert row["accuracy/mean"] == 1.0 and row["buffer/barren_quotas"] == 1
    assert desk.core.curriculum.state_dict()


def test_the_first_of_each_kind_is_logged_with_its_prompt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = desk_of()
    other = VALUE.replace("'x'", "'yyy'")  # the same kind: same type, same place
    elsewhere = VALUE.replace(":12", ":13")
    leases = members(desk)
    with caplog.at_level(logging.WARNING, "buffer"):
        errors = [VALUE, other, elsewhere, TIMEOUT]
        for lease, error in zip(leases, errors, strict=True):
            desk.finish(lease, 0.0, error=error)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    for line, error in zip(lines, [VALUE, elsewhere, TIMEOUT], strict=True):
        assert error in line and f"prompt {leases[0].prompt_id}" in line


def test_rewards_that_always_fail_stop_the_run_with_the_last_error() -> None:
    desk = desk_of(buffer={"max_unusable_publishes": 2})
    desk.send(LEARNER, "batch_request", policy_version=0)
    received = 0
    while desk.core.error is None:
        leases = members(desk, received)
        received += 4
        assert leases and received < 100
        for lease in leases:
            desk.finish(lease, 0.0, error=VALUE)
    assert isinstance(desk.core.error, TrainingError)
    assert f"the last reward error: {VALUE}, prompt {leases[-1].prompt_id}" in str(desk.core.error)


def test_in_an_eval_it_counts_as_wrong() -> None:
    desk = Desk(make_config(eval={"every": 1}), num_eval=4)
    desk.join()
    leases = desk.request(4)
    for lease, error in zip(leases, ["", "", VALUE, TIMEOUT], strict=True):
        desk.finish(lease, 1.0, error=error, format=1.0)
    ((stream, row),) = desk.rows
    assert stream == "eval" and row["eval/accuracy"] == 0.5 and row["eval/reward_errors"] == 2
    assert row["eval/num_prompts"] == 4 and row["eval/format"] == 1.0
    assert desk.core.stats.counts["reward/errors"] == 0  # of training rollouts


def test_a_group_without_any_reward() -> None:
    group = group_of(0)
    for rollout in group.members:
        rollout.state, rollout.error = RolloutState.FAILED, VALUE
    assert group.complete and ClosePolicy(2, 0, 0).may_close(group, version=2, now=10.0)
    closed = close(group, min_rollouts=2, length_weight=1.0)
    assert closed.too_few and not closed.zero_variance and closed.rollouts == []
    assert closed.oldest_version == group.opened_version and closed.num_expired == 0


@pytest.mark.parametrize("min_rollouts, too_few", [(1, False), (2, False), (3, True), (9, True)])
def test_min_rollouts_decides_after_failures(min_rollouts: int, too_few: bool) -> None:
    group = group_of(2)
    for rollout in group.members[2:]:
        rollout.state, rollout.error, rollout.holder = RolloutState.FAILED, VALUE, None
    closed = close(group, min_rollouts=min_rollouts)
    assert closed.too_few is too_few and closed.num_expired == 0
    assert [r.state for r in group.members] == [RolloutState.SCORED] * 2 + [RolloutState.FAILED] * 2


def test_the_length_reward_comes_at_the_close_after_its_warm_up() -> None:
    desk = desk_of(reward={"length": 2.0, "length_warmup_versions": 1})
    lengths, totals = [1, 3, 5, 2], [1.0, 1.0, 0.0, 0.5]
    expected = length_rewards(lengths, [True, True, False, False])
    assert expected == [0.5, 0.0, -0.5, 0.0]
    for version, weight in [(0, 0.0), (1, 2.0)]:
        leases = members(desk, received=4 * version)
        for lease, length, total in zip(leases, lengths, totals, strict=True):
            desk.finish(lease, total, num_tokens=length, version=version)
        batch = batch_of(desk.send(LEARNER, "batch_request", policy_version=version))
        sums = [total + weight * value for total, value in zip(totals, expected, strict=True)]
        assert batch.rewards.tolist() == pytest.approx(sums)
        assert batch.info["reward/length/mean"] == 0.0 and batch.info["accuracy/mean"] == 0.5
        rewards = [rollout.rewards for rollout in desk.recorded[-1][1][0].rollouts]
        assert [r["length"] for r in rewards] == expected
        assert [r["task"] for r in rewards] == totals
        desk.train(version=version + 1, step=version + 1)


def test_equal_answers_of_different_lengths_have_variance() -> None:
    """Zero variance is judged on the total: the length reward makes an all-right group train."""
    for weight, usable in [(0.0, 0), (1.0, 1)]:
        desk = desk_of(reward={"length": weight})
        for lease in members(desk):
            desk.finish(lease, 1.0, num_tokens=1 + lease.member)
        assert len(desk.core.drawing.table) == usable


def test_each_term_has_its_mean_in_the_rows() -> None:
    desk = desk_of()
    for lease in members(desk):
        extra = {"digits": 7.0} if lease.member == 2 else {}
        desk.finish(lease, float(lease.member), accuracy=float(lease.member), format=0.5, **extra)
    batch = batch_of(desk.send(LEARNER, "batch_request", policy_version=0))
    desk.train(version=1, step=1)
    for row in (batch.info, desk.rows[0][1]):
        assert row["reward/accuracy/mean"] == 1.5 and row["reward/format/mean"] == 0.5
        assert row["reward/digits/mean"] == 7.0  # over the members that have it
        assert "reward/total/mean" not in row and "reward/task/mean" not in row
