"""Publishes policy versions to every actor's engine; owned by learner rank 0.

    actor:   weights_join, weights_leave;  weights_ready, weights_done | weights_failed
    learner: weights_group (rendezvous and parameters), weights_update (a version comes now)

The group is formed anew before a publication whenever an actor joined or left since the last.
Each wait has the deadline `weights.timeout_s`, and its error names the actors that did not answer.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from async_r1.channels import Router, peer_name
from async_r1.errors import DeadlineError, TransferError, WireError
from async_r1.fields import get
from async_r1.role import Role
from async_r1.wire import Message
from learner.weight_senders import Member, make_sender


@dataclass(slots=True)
class _Actor:
    world_size: int
    policy_version: int


class WeightPublisher:
    """Weight control for all actors; the tensors go through a sender."""

    def __init__(self, role: Role, num_actors: int, device: torch.device) -> None:
        self._router = Router(role.resolved.weights_address)
        self._sender = make_sender(role.config, role.config.run.host, device)
        self._timeout_s = role.config.weights.timeout_s
        self._num_actors = num_actors
        self._actors: dict[bytes, _Actor] = {}
        self._group: list[bytes] = []
        self._epoch = 0
        self._role = role

    def wait_for_actors(self, timeout_s: float) -> None:
        """Wait until all actors joined.

        Raises:
            DeadlineError: some did not within the timeout.
        """
        deadline = time.monotonic() + timeout_s
        while len(self._actors) < self._num_actors:
            left = deadline - time.monotonic()
            if left <= 0:
                names = ", ".join(peer_name(peer) for peer in self._actors) or "none"
                raise DeadlineError(
                    f"{self._num_actors} actors must join the weight group, after "
                    f"{timeout_s:g} s there are {len(self._actors)}: {names}"
                )
            self.poll(min(left, 0.5))

    def poll(self, timeout_s: float = 0.0) -> None:
        """Serve joins and leaves."""
        received = self._router.receive(timeout_s)
        while received is not None:
            self._membership(*received)
            received = self._router.receive()

    def publish(
        self, version: int, parent: int, weights: Iterator[tuple[str, torch.Tensor]]
    ) -> dict[str, float]:
        """Bring a version to every actor; returns metrics.

        `weights` yields (Hugging Face name, full tensor); it is consumed entirely. With no actor
        joined nothing is sent.

        Raises:
            TransferError: the transfer broke; names the actors that failed or did not answer.
        """
        started = time.monotonic()
        self.poll()
        tensors = [(name, tensor.detach()) for name, tensor in weights]
        transfer_s = 0.0
        if self._actors:
            if sorted(self._actors) != self._group:
                self._form_group(tensors)
            transfer_started = time.monotonic()
            self._sender.stage(tensors)
            update = self._sender.update_info(version)
            values = {"policy_version": version, "parent": parent, "update_info": update}
            self._announce("weights_update", dict.fromkeys(self._group, values))
            done = Message("weights_done", {"policy_version": version})
            self._guarded(done, lambda: self._sender.send(tensors))
            transfer_s = time.monotonic() - transfer_started
            for peer in self._group:
                self._actors[peer].policy_version = version
        num_bytes = sum(tensor.nbytes for _, tensor in tensors)
        return {
            "time/publish_s": time.monotonic() - started,
            "time/transfer_s": transfer_s,
            "publish/bytes": float(num_bytes),
            "publish/num_actors": float(len(self._actors)),
        }

    def close(self) -> None:
        self._sender.close()
        self._router.close()

    def _form_group(self, tensors: list[tuple[str, torch.Tensor]]) -> None:
        self._group = sorted(self._actors)
        self._epoch += 1
        self._role.log.info("weight group %d: %d actors", self._epoch, len(self._group))
        members = [Member(peer_name(peer), self._actors[peer].world_size) for peer in self._group]
        infos = self._sender.open(members, tensors)
        self._announce(
            "weights_group",
            {
                peer: {"epoch": self._epoch, "init_info": info}
                for peer, info in zip(self._group, infos, strict=True)
            },
        )
        try:
            ready = Message("weights_ready", {"epoch": self._epoch})
            self._guarded(ready, self._sender.connect)
        except TransferError:
            self._group = []
            raise

    def _announce(self, kind: str, values: dict[bytes, dict[str, Any]]) -> None:
        for peer, value in values.items():
            if not self._router.send(peer, Message(kind, value)):
                del self._actors[peer]
                self._group = []
                raise TransferError(f"{peer_name(peer)} left before {kind}")

    def _guarded(self, answer: Message, transfer: Callable[[], None]) -> None:
        """Run a collective, then collect every member's answer; an error names who failed."""
        cause: Exception | None = None
        try:
            transfer()
        except RuntimeError as error:  # what torch's process groups raise
            cause = error
        limit = self._timeout_s if cause is None else 2.0
        missing, failures = self._collect(answer, limit)
        if cause is None and not missing and not failures:
            return
        self._group = []
        names = ", ".join(peer_name(peer) for peer in missing)
        parts = [f"{name}: {text}" for name, text in failures.items()]
        parts += [f"no answer from {names} within {limit:g} s"] if missing else []
        parts += [f"sender: {cause}"] if cause else []
        raise TransferError(
            f"weight transfer broke ({answer.kind}); " + "; ".join(parts)
        ) from cause

    def _collect(self, answer: Message, limit: float) -> tuple[list[bytes], dict[str, str]]:
        waiting, failures = set(self._group), {}
        deadline = time.monotonic() + limit
        while waiting and (left := deadline - time.monotonic()) > 0:
            received = self._router.receive(left)
            if received is None:
                break
            peer, message = received
            if not isinstance(message, Message):
                self._membership(peer, message)
            elif message == answer and peer in waiting:
                waiting.remove(peer)
            elif message.kind == "weights_failed":
                waiting.discard(peer)
                failures[peer_name(peer)] = str(message.values.get("text"))
            else:
                self._membership(peer, message)
        return sorted(waiting), failures

    def _membership(self, peer: bytes, message: Message | WireError) -> None:
        """Take a join or a leave; whatever else a peer may send is logged."""
        try:
            if isinstance(message, WireError):
                raise message
            self._join_or_leave(peer, message)
        except WireError as error:
            self._role.log.warning("rejected from %s: %s", peer_name(peer), error)

    def _join_or_leave(self, peer: bytes, message: Message) -> None:
        if message.kind == "weights_join":
            self._actors[peer] = _Actor(
                get(message, "world_size", int), get(message, "policy_version", int)
            )
            self._role.log.info("%s joined the weight group", peer_name(peer))
        elif message.kind == "weights_leave":
            self._actors.pop(peer, None)
        else:
            self._role.log.warning("%s sent a late %s", peer_name(peer), message.kind)
