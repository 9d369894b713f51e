"""Actors and the leases that each can still take; the emptiest is found without a search."""

import heapq
from dataclasses import dataclass


@dataclass(slots=True)
class Actor:
    """An actor as the buffer knows it."""

    index: int
    order: int  # in which actors joined
    last_seen: float
    free_slots: int = 0
    granted: int = 0  # leases sent since it joined


class FreeSlots:
    """Actors under a heap by free slots, whose outdated entries die at the top."""

    def __init__(self) -> None:
        self.actors: dict[bytes, Actor] = {}
        self._num_joined = 0
        self._heap: list[tuple[int, int, bytes]] = []  # minus free slots, order, peer

    def join(self, peer: bytes, index: int, now: float) -> None:
        """An actor said hello; said twice, the leases that are on their way still count."""
        if peer not in self.actors:
            self.actors[peer] = Actor(index, self._num_joined, now)
            self._num_joined += 1

    def leave(self, peer: bytes) -> None:
        self.actors.pop(peer, None)

    def requested(self, peer: bytes, free_slots: int, leases_received: int) -> None:
        """It calls `free_slots` free; leases on their way to it fill some of them.

        It may have received more than were sent since it joined: some from before it was forgotten.
        """
        actor = self.actors[peer]
        actor.granted = max(actor.granted, leases_received)
        actor.free_slots = free_slots - (actor.granted - leases_received)
        self._push(peer)

    def granted(self, peer: bytes, count: int = 1) -> None:
        """Leases were sent to it."""
        actor = self.actors[peer]
        actor.free_slots -= count
        actor.granted += count
        self._push(peer)

    def emptiest(self) -> bytes | None:
        """The actor with the most free slots, of several the first that joined; None if no slot
        is free."""
        while self._heap:
            minus_free, order, peer = self._heap[0]
            actor = self.actors.get(peer)
            if actor is not None and (-actor.free_slots, actor.order) == (minus_free, order):
                return peer
            heapq.heappop(self._heap)
        return None

    def _push(self, peer: bytes) -> None:
        actor = self.actors[peer]
        if actor.free_slots > 0:
            heapq.heappush(self._heap, (-actor.free_slots, actor.order, peer))
        if len(self._heap) > 4 * len(self.actors) + 64:  # nothing is granted: nothing dies
            self._heap = [
                (-actor.free_slots, actor.order, peer)
                for peer, actor in self.actors.items()
                if actor.free_slots > 0
            ]
            heapq.heapify(self._heap)
