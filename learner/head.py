"""What rank 0 alone has: the conversation with the buffer, the actors' weights, the metrics."""

import time
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from async_r1.role import Role
from async_r1.wire import Message
from learner.client import BufferClient
from learner.lag import Lag

SLACK_S = 15.0  # beyond a deadline of the buffer's own, so that its word comes first
POLL_S = 0.5  # between looks after joining actors, while there is no batch


class Publisher(Protocol):
    """What the loop asks of `WeightPublisher`."""

    def wait_for_actors(self, timeout_s: float) -> None: ...

    def publish(
        self, version: int, parent: int, weights: Iterator[tuple[str, Tensor]]
    ) -> dict[str, float]: ...

    def poll(self) -> None: ...

    def close(self) -> None: ...


MakePublisher = Callable[[Role, int, torch.device], Publisher]


class Head:
    """Made once the policy is loaded; its making waits for actors and buffer."""

    def __init__(self, role: Role, device: torch.device, make_publisher: MakePublisher) -> None:
        config = role.config
        self._role = role
        self._polled_at = 0.0
        self._lag = Lag(config.staleness.force) if config.staleness.force >= 0 else None
        self._published = 0
        self.rows = role.metrics("learner")
        self.publisher = make_publisher(role, config.actors.count, device)
        self.client = BufferClient(
            role.resolved.buffer_address, role.name, config.run.peer_timeout_s
        )
        role.status("waiting", f"actors to join the weight group ({config.actors.count})")
        self.publisher.wait_for_actors(config.run.start_timeout_s)
        role.status("waiting", f"the buffer at {role.resolved.buffer_address}")
        self.client.hello(0)

    def request_batch(self, version: int) -> Message:
        timeout_s = self._role.config.buffer.wait_timeout_s + SLACK_S
        return self.client.request_batch(version, timeout_s, self._idle("a batch from the buffer"))

    def publish(self, version: int, weights: Iterator[tuple[str, Tensor]]) -> dict[str, float]:
        """Publish a version, or what `staleness.force` puts in its place."""
        if self._lag is None:
            return self._publish(version, weights)
        lagged = self._lag.publishable(version, weights)
        return {} if lagged is None else self._publish(lagged[0], iter(lagged[1]))

    def finish(self, version: int) -> None:
        # An eval may be running, and the last one comes after it.
        timeout_s = 2 * self._role.config.eval.timeout_s + SLACK_S
        self.client.finish(version, timeout_s, self._idle("the last eval"))

    def close(self) -> None:
        self.client.close()
        self.publisher.close()
        self.rows.close()

    def _publish(self, version: int, weights: Iterator[tuple[str, Tensor]]) -> dict[str, float]:
        metrics = self.publisher.publish(version, self._published, weights)
        self._published = version
        return metrics

    def _idle(self, waits_for: str) -> Callable[[float], None]:
        def on_idle(waited_s: float) -> None:
            if waited_s >= 1.0:  # shorter waits are the rhythm of the run, not news
                self._role.status("waiting", waits_for)
            if time.monotonic() - self._polled_at >= POLL_S:
                self._polled_at = time.monotonic()
                self.publisher.poll()

        return on_idle
