"""The client against a buffer that answers, fails, misbehaves or is silent."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from async_r1.errors import DeadlineError, PeerError, ProtocolError, TrainingError
from async_r1.messages import read_batch, write_batch
from async_r1.wire import Message
from learner import client as client_module
from learner.client import BufferClient
from tests.learner.batches import random_batch
from tests.learner.fake_buffer import Answer, FakeBuffer


@contextmanager
def talking_to(answer: Answer) -> Iterator[tuple[BufferClient, FakeBuffer]]:
    buffer = FakeBuffer(answer)
    client = BufferClient(buffer.address, "learner_000", timeout_s=5.0)
    try:
        yield client, buffer
    finally:
        client.close()
        buffer.close()


def test_conversation() -> None:
    batch = random_batch(0)
    answers = {
        "hello": Message("welcome", {}),
        "batch_request": write_batch(batch),
        "step_done": Message("ok", {}),
        "finish": Message("finished", {}),
    }
    with talking_to(lambda message: answers.get(message.kind)) as (client, buffer):
        client.hello(0)
        received = read_batch(client.request_batch(3, timeout_s=5.0))
        client.step_done(batch_id=1, step=1, policy_version=4, trained_tokens=60)
        client.finish(4, timeout_s=5.0)
    assert (received.token_ids == batch.token_ids).all()
    assert [message.kind for message in buffer.received[:4]] == list(answers)
    assert buffer.received[0].values["role"] == "learner"
    assert buffer.received[1].values == {"policy_version": 3, "request": 2}
    assert buffer.received[2].values == {
        "request": 3,
        "batch_id": 1,
        "step": 1,
        "policy_version": 4,
        "trained_tokens": 60,
    }


def test_a_question_is_repeated_to_a_buffer_that_was_started_again() -> None:
    """It answers the repetition, and before it what the learner has the answer to already."""
    batch, said = write_batch(random_batch(0)), []

    def answer(message: Message) -> Message | None:
        said.append((message.kind, message.values.get("request")))
        if message.kind == "batch_request":
            return Message("rejoin") if len(said) == 1 else batch
        if message.kind == "hello":
            return Message("welcome", {})
        return Message("ok", {"request": 1 if said.count(("step_done", 2)) == 1 else 2})

    with talking_to(answer) as (client, _):
        client.request_batch(3, timeout_s=5.0)
        with pytest.raises(DeadlineError):  # an answer to the first question is none to this one
            client._timeout_s = 0.3
            client.step_done(batch_id=1, step=1, policy_version=4, trained_tokens=60)
    assert said[:4] == [
        ("batch_request", 1),
        ("hello", None),
        ("batch_request", 1),
        ("step_done", 2),
    ]


def test_a_silent_buffer_is_named_within_the_deadline() -> None:
    with talking_to(lambda _: None) as (client, buffer):
        started = time.monotonic()
        with pytest.raises(DeadlineError) as caught:
            client.request_batch(3, timeout_s=0.3)
        assert 0.3 <= time.monotonic() - started < 2.0
    assert buffer.address in str(caught.value)
    assert "batch_request" in str(caught.value)


def test_an_absent_buffer_is_named_within_the_deadline() -> None:
    client = BufferClient("tcp://127.0.0.1:9", "learner_000", timeout_s=0.3)
    with pytest.raises(DeadlineError, match=r"tcp://127\.0\.0\.1:9 did not answer hello"):
        client.hello(0)
    client.close()


def test_errors_of_the_buffer_come_out_as_what_they_are() -> None:
    def error(name: str) -> Answer:
        return lambda _: Message("error", {"error": name, "text": "no usable group"})

    with talking_to(error("TrainingError")) as (client, _):
        with pytest.raises(TrainingError, match="no usable group"):
            client.request_batch(0, timeout_s=5.0)
    for name in ("SystemExit", "NoSuchError", "annotations"):
        with talking_to(error(name)) as (client, _):
            with pytest.raises(PeerError, match=f"{name}: no usable group"):
                client.request_batch(0, timeout_s=5.0)


def test_a_wrong_answer_is_an_error() -> None:
    with talking_to(lambda _: Message("ok", {})) as (client, _):
        with pytest.raises(ProtocolError, match="answered batch_request with 'ok', not 'batch'"):
            client.request_batch(0, timeout_s=5.0)


def test_waiting_looks_after_other_things_and_shows_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "POLL_S", 0.02)
    monkeypatch.setattr(client_module, "HEARTBEAT_S", 0.05)
    beats = []

    def answer(message: Message) -> Message | None:
        beats.append(message.kind)
        if beats.count("heartbeat") < 3:
            return None
        batch = write_batch(random_batch(0))
        return Message(batch.kind, {**batch.values, "request": 1}, batch.arrays)

    idle: list[float] = []
    with talking_to(answer) as (client, _):
        client.request_batch(0, timeout_s=10.0, on_idle=idle.append)
    assert len(idle) >= 3
    assert idle == sorted(idle)
