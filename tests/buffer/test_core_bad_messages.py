"""What is no message, or contradicts another: answered, counted, without effect."""

from typing import Any

import pytest

from async_r1.errors import WireError
from async_r1.messages import write_segment
from buffer.core import MAX_ERROR_CHARS
from tests.buffer.desk import LEARNER, A, Desk
from tests.buffer.fakes import make_segment

BAD: list[tuple[str, dict[str, Any]]] = [
    ("who knows", {}),
    ("hello", {"role": "spy"}),
    ("hello", {"role": "actor"}),
    ("hello", {}),
    ("lease_request", {"free_slots": "many", "leases_received": 0}),
    ("segment", {"rollout_id": 0}),
    ("score", {"rollout_id": 0, "rewards": {b"x": 1, "y": 2}}),
    ("batch_request", {}),
    ("step_done", {"step": 1}),
]


@pytest.mark.parametrize(("kind", "values"), BAD)
def test_bad_messages_are_answered_counted_and_change_nothing(
    desk: Desk, kind: str, values: dict[str, Any]
) -> None:
    desk.join()
    ((peer, message),) = desk.send(A, kind, **values)
    assert (peer, message.kind, message.values["error"]) == (A, "error", "WireError")
    assert desk.core.stats.counts["wire/rejected"] == 1
    assert (desk.core.version, desk.core.step) == (0, 0)
    assert len(desk.request(1)) == 1


def test_bytes_that_are_no_message_are_answered_in_few_words(desk: Desk) -> None:
    ((_, message),) = desk.handle(A, WireError("x" * 10**6))
    assert message.kind == "error" and len(message.values["text"]) == MAX_ERROR_CHARS


def test_contradictions_are_protocol_errors_and_leave_the_state(desk: Desk) -> None:
    desk.train(version=2, step=2)
    for message in (
        {"kind": "step_done", "step": 9, "policy_version": 1},
        {"kind": "batch_request", "policy_version": 1},
    ):
        ((_, answer),) = desk.send(LEARNER, **message)
        assert answer.values["error"] == "ProtocolError"
        assert "version 1 after 2" in answer.values["text"]
    assert (desk.core.version, desk.core.step) == (2, 2)
    desk.join()
    (lease,) = desk.request(1)
    ((_, answer),) = desk.handle(
        A, write_segment(make_segment([5], prefix=[4], rollout_id=lease.rollout_id))
    )
    assert answer.values["error"] == "ProtocolError"
    assert "has 0 tokens, got a segment at offset 1" in answer.values["text"]
