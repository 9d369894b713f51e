"""Many simulated actors in one process, each with a connection of its own, for `buffer_load.py`.

They speak the real protocol through `actors.client`; what they send was made up beforehand. Lengths
are lognormal and follow from seed and rollout id alone. The policy version is a file of eight bytes
that the learner writes before it tells the buffer, as a broadcast reaches actors first.
"""

import math
import mmap
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import zmq

from actors.client import BufferClient
from async_r1 import segment_hash
from async_r1.types import (
    FinishReason,
    Lease,
    LeaseKind,
    Score,
    Segment,
    SegmentStatus,
    VersionSpan,
)

POOL = np.random.default_rng(0).integers(3, 100, size=1 << 18).astype(np.int32)
LOGPROBS = -np.random.default_rng(1).random(1 << 18).astype(np.float32)
PROMPT = np.arange(3, 35, dtype=np.int32)


class SharedVersion:
    """The newest published version, for all processes of this machine."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8)

    def get(self) -> int:
        return int.from_bytes(self._map[:8], "little")

    def set(self, version: int) -> None:
        self._map[:8] = version.to_bytes(8, "little")


@dataclass(frozen=True)
class Load:
    """What every actor does."""

    slots: int
    segment_tokens: int
    median: float  # of the lengths [tokens]
    sigma: float  # deviation of their logarithm
    top: int  # longest
    seed: int = 0

    def length(self, rollout_id: int) -> int:
        rng = np.random.default_rng([self.seed, rollout_id])
        return max(1, min(self.top, round(rng.lognormal(math.log(self.median), self.sigma))))


@dataclass(slots=True)
class InFlight:
    """A rollout under a lease."""

    lease: Lease
    length: int  # at which it ends
    offset: int
    prefix_hash: int
    first: bool = True


@dataclass(slots=True)
class LoadActor:
    """One actor: takes leases, sends a segment per rollout and turn, scores what it finished."""

    client: BufferClient
    load: Load
    version: SharedVersion
    rollouts: dict[int, InFlight] = field(default_factory=dict)
    num_tokens: int = 0
    longest: int = 0
    stopped: bool = False

    def turn(self, now: float) -> bool:
        """Receive, sample a segment of every rollout, ask for more; whether anything happened."""
        inbox = self.client.receive(now)
        self.stopped |= inbox.stop
        for rollout_id, epoch in inbox.revoked:
            found = self.rollouts.get(rollout_id)
            if found is not None and found.lease.lease_epoch == epoch:
                del self.rollouts[rollout_id]
        for lease in inbox.leases:
            if lease.kind is LeaseKind.SCORE:
                self._score(lease)
            else:
                length = max(self.load.length(lease.rollout_id), len(lease.prefix_ids) + 1)
                self.rollouts[lease.rollout_id] = InFlight(
                    lease, length, len(lease.prefix_ids), lease.prefix_hash
                )
        busy = bool(self.rollouts) and not self.client.blocked
        if busy:
            for rollout in list(self.rollouts.values()):
                self._sample(rollout)
        self.client.request_leases(self.load.slots - len(self.rollouts))
        self.client.heartbeat(now, 5.0)
        return busy or bool(inbox.leases)

    def _sample(self, rollout: InFlight) -> None:
        lease = rollout.lease
        done = rollout.offset - len(lease.prefix_ids)
        room = lease.token_budget - done if lease.token_budget else self.load.top
        count = min(self.load.segment_tokens, rollout.length - rollout.offset, room)
        finished = rollout.offset + count >= rollout.length
        status = SegmentStatus.FINISHED if finished else SegmentStatus.STREAMING
        if not finished and count == room:
            status = SegmentStatus.SUSPENDED
        part = slice(rollout.offset, rollout.offset + count)
        segment = Segment(
            rollout_id=lease.rollout_id,
            lease_epoch=lease.lease_epoch,
            token_offset=rollout.offset,
            prefix_hash=rollout.prefix_hash,
            status=status,
            finish_reason=FinishReason.STOP if finished else None,
            spans=(VersionSpan(self.version.get(), count),),
            prefill_version=self.version.get(),
            swaps=(),
            token_ids=POOL[part],
            behavior_logprobs=LOGPROBS[part],
            prompt_ids=PROMPT if rollout.first else None,
        )
        self.client.send_segment(segment)
        rollout.prefix_hash = segment_hash.extend(rollout.prefix_hash, segment.token_ids)
        rollout.offset, rollout.first = part.stop, False
        self.num_tokens += count
        if status is not SegmentStatus.STREAMING:
            del self.rollouts[lease.rollout_id]
        if finished:
            self.longest = max(self.longest, rollout.length)
            self._score(lease)

    def _score(self, lease: Lease) -> None:
        right = float(np.random.default_rng([self.load.seed, 1, lease.rollout_id]).random() < 0.5)
        score = Score(
            rollout_id=lease.rollout_id,
            lease_epoch=lease.lease_epoch,
            rewards={"task": right, "total": right},
            text="",
        )
        self.client.send_score(score)


def run(address: str, version_file: Path, first: int, count: int, load: Load) -> tuple[int, int]:
    """Play actors `first` to `first + count - 1` until the buffer says stop; tokens sent, and the
    longest rollout finished."""
    zmq.Context.instance().set(zmq.MAX_SOCKETS, 4 * count + 64)
    version = SharedVersion(version_file)
    actors = []
    for index in range(first, first + count):
        client = BufferClient(address, f"actor_{index:04d}", index, timeout_s=300.0)
        client.join(time.monotonic())
        actors.append(LoadActor(client, load, version))
    print("ready", flush=True)
    while not all(actor.stopped for actor in actors):
        now = time.monotonic()
        if not any([actor.turn(now) for actor in actors if not actor.stopped]):
            time.sleep(0.002)
    for actor in actors:
        actor.client.close()
    return sum(actor.num_tokens for actor in actors), max(actor.longest for actor in actors)


def main() -> int:
    address, version_file, first, count, slots, segment, median, sigma, top, seed = sys.argv[1:]
    load = Load(int(slots), int(segment), float(median), float(sigma), int(top), int(seed))
    tokens, longest = run(address, Path(version_file), int(first), int(count), load)
    print(tokens, longest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
