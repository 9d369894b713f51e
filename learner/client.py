"""The learner's end of its conversation with the buffer: one request at a time, each answered."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from async_r1.channels import Dealer
from async_r1.errors import DeadlineError, ProtocolError
from async_r1.messages import read_error
from async_r1.wire import Message

POLL_S = 0.25  # how often a wait looks after other things
HEARTBEAT_S = 2.0

OnIdle = Callable[[float], None]  # called with the seconds waited so far


class BufferClient:
    """Rank 0's connection to the buffer.

    Every method may raise, beside what it names itself:
        DeadlineError: the buffer did not answer in time.
        PeerError: the buffer answered with an error of a class unknown here.
        ProtocolError: the buffer answered with something else than the request asks for.
        AsyncR1Error: whatever error the buffer answered with, as the class that it named.
    """

    def __init__(self, address: str, name: str, timeout_s: float) -> None:
        """`timeout_s`: deadline of an answer that the buffer need not wait for itself."""
        self._dealer = Dealer(address, name)
        self._name = name
        self._timeout_s = timeout_s
        self._version = 0  # at the last hello or step
        self._number = 0  # of the last request

    def hello(self, policy_version: int) -> None:
        """Introduce this learner; `policy_version` is what it holds."""
        self._version = policy_version
        self._ask(Message("hello", self._introduction()), "welcome", self._timeout_s, None)

    def request_batch(
        self, policy_version: int, timeout_s: float, on_idle: OnIdle | None = None
    ) -> Message:
        """The `batch` message to train at `policy_version`.

        `on_idle` is called every POLL_S while there is none.
        """
        values = {"policy_version": policy_version}
        return self._ask(Message("batch_request", values), "batch", timeout_s, on_idle)

    def step_done(
        self,
        *,
        batch_id: int,
        step: int,
        policy_version: int,
        trained_tokens: int,
        arrays: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Acknowledge a batch; `policy_version` is the one that the policy has reached.

        `arrays`: `item_ids` int32 [I] and `surprise` float32 [I], if priorities go by it.
        """
        values = {
            "batch_id": batch_id,
            "step": step,
            "policy_version": policy_version,
            "trained_tokens": trained_tokens,
        }
        self._version = policy_version
        self._ask(Message("step_done", values, arrays or {}), "ok", self._timeout_s, None)

    def finish(self, policy_version: int, timeout_s: float, on_idle: OnIdle | None = None) -> None:
        """End the run; returns when the last eval is done."""
        values = {"policy_version": policy_version}
        self._ask(Message("finish", values), "finished", timeout_s, on_idle)

    def close(self) -> None:
        """Say goodbye; the buffer need not wait for anything from here any more."""
        self._dealer.send(Message("bye"))
        self._dealer.close()

    def _introduction(self) -> dict[str, Any]:
        return {"role": "learner", "name": self._name, "policy_version": self._version}

    def _ask(
        self, request: Message, answer: str, timeout_s: float, on_idle: OnIdle | None
    ) -> Message:
        """Ask until there is an answer: a buffer that was started again has forgotten the question,
        and asks to rejoin. The number tells an answer from one to an earlier question."""
        self._number += 1
        numbered = {**request.values, "request": self._number}
        request = Message(request.kind, numbered, request.arrays)
        self._dealer.send(request)
        started = last_sent = time.monotonic()
        while (waited := time.monotonic() - started) < timeout_s:
            message = self._dealer.receive(min(POLL_S, timeout_s - waited))
            if message is not None and message.kind == "rejoin":
                self._dealer.send(Message("hello", self._introduction()))
                self._dealer.send(request)
                continue
            if message is not None:
                # An error without a number is about a request that could not even be read; any
                # other answer is to what was asked twice, or to the hello of a rejoining.
                unread = message.kind == "error" and "request" not in message.values
                if unread or message.values.get("request") == self._number:
                    return _expect(message, request.kind, answer)
                continue
            now = time.monotonic()
            if now - last_sent >= HEARTBEAT_S:
                self._dealer.send(Message("heartbeat"))
                last_sent = now
            if on_idle is not None:
                on_idle(now - started)
        raise DeadlineError(
            f"buffer at {self._dealer.address} did not answer {request.kind} with {answer} "
            f"within {timeout_s:g} s"
        )


def _expect(message: Message, request: str, answer: str) -> Message:
    if message.kind == answer:
        return message
    if message.kind != "error":
        raise ProtocolError(f"buffer answered {request} with {message.kind!r}, not {answer!r}")
    raise read_error(message)
