"""Evaluation: leased first, measured apart, never trained."""

import pytest

from async_r1.errors import DeadlineError
from async_r1.messages import read_leases
from async_r1.segment_messages import write_segment
from async_r1.types import FinishReason, LeaseKind
from tests.buffer.desk import LEARNER, A, B, Desk, answer_eval, batch_of, eval_desk, kinds
from tests.buffer.fakes import make_config, make_segment


def test_eval_row_against_slow_python() -> None:
    desk = eval_desk()
    leases = desk.request(4)
    assert {lease.kind for lease in leases} == {LeaseKind.EVAL}
    assert [lease.prompt_id for lease in leases] == [f"eval/{i}" for i in range(4)]
    assert {lease.temperature for lease in leases} == {0.0}
    assert {lease.token_budget for lease in leases} == {0}
    desk.now = 7.0
    answer_eval(desk, leases, [1.0, 0.0, 1.0, 1.0], [0, 0, 1, 1])
    ((stream, row),) = desk.rows
    assert stream == "eval"
    accuracy = 3 / 4
    deviation = (accuracy * (1 - accuracy) / 4) ** 0.5
    assert row.pop("eval/accuracy/ci95") == pytest.approx(1.96 * deviation)
    assert row == {
        "step": 0,
        "policy_version": 0,
        "policy_version_max": 1,
        "eval/accuracy": accuracy,
        "eval/accuracy/level_1": 1.0,  # prompts 0 and 3
        "eval/accuracy/level_2": 0.0,
        "eval/accuracy/level_3": 1.0,
        "eval/format": 1.0,
        "eval/task_reward/mean": accuracy,
        "eval/completion_length/mean": 1.0,
        "eval/clip_frac": 0.0,
        "eval/num_prompts": 4,
        "eval/reward_errors": 0,
        "time/eval_s": 7.0,
    }


def test_rewards_outside_of_0_and_1_leave_accuracy_a_share() -> None:
    """Functions of the user's may score -1 and 1, or give fractions."""
    desk = eval_desk()
    answer_eval(desk, desk.request(4), [-1.0, -1.0, 2.0, 0.3], [0] * 4)
    ((_, row),) = desk.rows
    assert row["eval/accuracy"] == 1 / 4 and row["eval/task_reward/mean"] == pytest.approx(0.075)
    assert row["eval/accuracy/ci95"] == pytest.approx(1.96 * (3 / 64) ** 0.5)


def test_eval_is_neither_journaled_nor_trained() -> None:
    desk = eval_desk(learner={"groups_per_update": 1})
    leases = desk.request(6)
    assert [lease.kind for lease in leases] == ["eval"] * 4 + ["generate"] * 2
    answer_eval(desk, leases[:4], [1, 0, 1, 0], [0] * 4)
    assert not [m for m in desk.journal.messages if m.kind in ("segment", "score")]
    for lease in leases[4:]:
        desk.finish(lease, float(lease.member))
    batch = batch_of(desk.send(LEARNER, "batch_request", policy_version=0))
    assert batch.rollout_ids.tolist() == [lease.rollout_id for lease in leases[4:]]
    assert batch.info["accuracy/mean"] == 0.5


def test_evals_at_every_other_version_and_the_last() -> None:
    desk = eval_desk()
    received, measured = 0, []
    for version in range(6):
        if version:
            desk.train(version=version, step=version)
        leases = [lease for lease in desk.request(4, received=received)]
        received += len(leases)
        evals = [lease for lease in leases if lease.kind is LeaseKind.EVAL]
        if evals:
            measured.append(version)
            answer_eval(desk, evals, [1.0] * 4, [version] * 4)
        for lease in leases[len(evals) :]:
            desk.finish(lease, 1.0, version=version)
    assert measured == [0, 2, 4]
    sent = desk.send(LEARNER, "finish", policy_version=5)
    assert (LEARNER, "finished") not in kinds(sent)
    leases = [lease for _, m in sent if m.kind == "leases" for lease in read_leases(m)]
    leases += desk.request(4 - len(leases), received=received + len(leases))
    sent = answer_eval(desk, leases, [0.0] * 4, [5] * 4)
    assert kinds(sent) == [(LEARNER, "finished"), (A, "stop")]
    assert desk.rows[-1][1]["policy_version"] == 5


def test_a_version_already_measured_is_not_measured_again_at_the_end() -> None:
    desk = eval_desk()
    answer_eval(desk, desk.request(4), [1.0] * 4, [0] * 4)
    sent = desk.send(LEARNER, "finish", policy_version=0)
    assert kinds(sent) == [(LEARNER, "finished"), (A, "stop")]


@pytest.mark.parametrize("waiting", ["batch_request", "finish", None])
def test_eval_deadline_tells_whoever_waits(waiting: str | None) -> None:
    desk = eval_desk(actors={"dead_after_s": 1e6})
    answer_eval(desk, desk.request(3), [1.0] * 3, [0] * 3)
    if waiting:
        desk.send(LEARNER, waiting, policy_version=0)
    sent = desk.tick(desk.core.config.eval.timeout_s + 1)
    assert kinds(sent) == ([(LEARNER, "error")] if waiting else [])
    assert isinstance(desk.core.error, DeadlineError)
    assert str(desk.core.error).startswith(
        "eval of version 0 took more than 300 s: 1 of 4 rollouts missing; actors: actor_000"
    )


def test_eval_first_in_sync_mode_even_with_an_unscored_rollout() -> None:
    """Its actor died between the last segment and the score: nothing may wait for that."""
    desk = Desk(
        make_config(
            mode="sync",
            staleness={"eta": 0},
            eval={"every": 1},
            learner={"groups_per_update": 1},
            actors={"max_concurrent": 4, "count": 1},
        ),
        num_eval=2,
    )
    desk.join()
    answer_eval(desk, desk.request(4), [1.0] * 2, [0] * 2)
    leases = desk.request(4, received=2)
    assert {lease.kind for lease in leases} == {LeaseKind.GENERATE}
    segment = make_segment(
        [1],
        finish=FinishReason.STOP,
        rollout_id=leases[0].rollout_id,
        lease_epoch=leases[0].lease_epoch,
    )
    desk.handle(A, write_segment(segment))
    desk.send(A, "bye")
    desk.train(version=1, step=1)
    desk.join(B, 1)
    evals = desk.request(4, peer=B)
    assert [lease.kind for lease in evals] == [LeaseKind.EVAL] * 2
