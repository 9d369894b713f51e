"""What is no message, or contradicts another: answered, counted, without effect."""

from typing import Any

import numpy as np
import pytest

from async_r1.errors import WireError
from async_r1.segment_messages import write_segment
from async_r1.wire import Message, decode, encode
from buffer.core import MAX_ERROR_CHARS
from tests.buffer.desk import LEARNER, A, B, Desk
from tests.buffer.fakes import make_config, make_segment
from tests.buffer.mutants import KINDS, ODD

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
    ("step_done", {"batch_id": 1, "step": 1, "policy_version": 2**31}),  # no int32 holds it
    ("lease_request", {"free_slots": 2**17, "leases_received": 0}),  # leasing would not end
    ("hello", {"role": "actor", "index": 0, "vocab_size": 0}),
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


GOOD: dict[str, dict[str, Any]] = {
    "hello": {"role": "actor", "index": 0, "vocab_size": 9, "leases": [], "request": 1},
    "lease_request": {"free_slots": 2, "leases_received": 0},
    "score": {
        "rollout_id": 0,
        "lease_epoch": 1,
        "rewards": {"task": 1.0, "total": 1.0},
        "text": "",
    },
    "heartbeat": {},
    "bye": {},
    "batch_request": {"policy_version": 0, "request": 2, "holding": [1]},
    "step_done": {"request": 3, "batch_id": 1, "step": 1, "policy_version": 1, "trained_tokens": 1},
}
NUMBERS = [-1, 0, 1, 2, 5, 2**31 - 1, 2**31, 2**63, 2**64 - 1, -(2**63), 0.5, float("inf")]


@pytest.mark.parametrize("seed", range(6))
def test_no_value_of_any_message_stops_it(seed: int) -> None:
    """Whatever fields hold, and in whatever order messages come from whomever."""
    rng = np.random.default_rng(seed)
    desk = Desk(make_config())
    desk.join()
    desk.request(2)
    for _ in range(400):
        kind = str(rng.choice(list(GOOD)))
        values = dict(GOOD[kind])
        for name in list(values):
            if rng.random() < 0.4:
                choices = [*ODD, *NUMBERS, *KINDS]
                values[name] = choices[int(rng.integers(len(choices)))]
        arrays: dict[str, Any] = {}
        if rng.random() < 0.3:
            arrays["item_ids"] = rng.integers(-3, 9, 3).astype(np.int32)
            arrays["surprise"] = rng.normal(size=int(rng.integers(2, 4))).astype(np.float32)
        peer = [A, B, LEARNER, b"\xff\0", b""][int(rng.integers(5))]
        desk.now += float(rng.exponential(0.1))
        sent = desk.core.handle(peer, Message(kind, values, arrays), desk.now)
        sent += desk.core.tick(desk.now) if rng.random() < 0.1 else []
        for _, message in sent:
            decode([bytes(frame) for frame in encode(message)])
        for message in desk.journal.messages:
            encode(message)
        desk.journal.messages.clear()
        assert desk.core.error is None
