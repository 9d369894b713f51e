"""The actor's side of the buffer protocol: leases in, segments and scores out, acknowledged.

Delivery is at-least-once: segments and scores are kept until the buffer has acknowledged them, and
sent again when it asks the actor to rejoin. Credits bound the bytes that are kept.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass

from async_r1.channels import Dealer
from async_r1.errors import AsyncR1Error, DeadlineError, PeerError, ProtocolVersionError
from async_r1.fields import get
from async_r1.messages import read_ack, read_error, read_leases, write_score
from async_r1.segment_messages import write_segment
from async_r1.types import Lease, Score, Segment, SegmentStatus
from async_r1.wire import Message

_Key = tuple[int, int, int]  # rollout_id, lease_epoch, token_offset
_Lease = tuple[int, int]  # rollout_id, lease_epoch

REJOIN_S = 2.0  # the buffer may ask several times before it has read the first answer


@dataclass(slots=True)
class Inbox:
    """What arrived since the last look."""

    leases: list[Lease]
    revoked: list[tuple[int, int]]  # rollout_id, lease_epoch
    stop: bool = False


class BufferClient:
    """One actor's connection to the buffer."""

    def __init__(
        self,
        address: str,
        name: str,
        index: int,
        timeout_s: float,
        vocab_size: int | None = None,
    ) -> None:
        """`vocab_size`: of the model here; the buffer refuses a token that is not below."""
        self.dealer = Dealer(address, name)
        self._hello = {"role": "actor", "index": index}
        if vocab_size is not None:
            self._hello["vocab_size"] = vocab_size
        self._timeout_s = timeout_s
        self._credit = 0
        self._unacknowledged: OrderedDict[_Key, Message] = OrderedDict()
        self._unacknowledged_bytes = 0
        self._unscored: OrderedDict[_Lease, Message] = OrderedDict()
        self._leases: dict[_Lease, None] = {}  # that the buffer counts on, oldest first
        self._rejoining_since: float | None = None
        self._queue: deque[Message] = deque()
        self._leases_received = 0
        self._last_request: tuple[int, int] | None = None
        self._last_heard = 0.0
        self._last_sent = 0.0
        self.num_segments = 0

    def join(self, now: float) -> int:
        """Say hello; returns the version that the buffer knows.

        Raises:
            DeadlineError: the buffer did not answer within the timeout.
            PeerError: it refuses this actor.
            ProtocolVersionError: it speaks another version of the protocol.
        """
        self.dealer.send(Message("hello", self._hello))
        message = self.dealer.receive(self._timeout_s)
        if message is not None and message.kind == "error":
            raise _refusal(message)
        if message is None or message.kind != "welcome":
            raise DeadlineError(
                f"buffer at {self.dealer.address} did not welcome this actor within "
                f"{self._timeout_s:g} s"
            )
        self._credit = get(message, "credit_bytes", int)
        self._last_heard = self._last_sent = now
        return get(message, "policy_version", int)

    @property
    def blocked(self) -> bool:
        """Whether segments wait for credit: sampling more would only make the queue longer."""
        return bool(self._queue)

    def send_segment(self, segment: Segment) -> None:
        self.num_segments += 1
        self._queue.append(write_segment(segment))
        self._flush()

    def send_score(self, score: Score) -> None:
        """Queued behind the rollout's segments, so that it never overtakes them."""
        self._queue.append(write_score(score))
        self._flush()

    def request_leases(self, free_slots: int) -> None:
        """Tell how many leases this actor can take; repeated only when that changed."""
        request = (free_slots, self._leases_received)
        if request != self._last_request:
            self._last_request = request
            values = {"free_slots": free_slots, "leases_received": self._leases_received}
            self._send(Message("lease_request", values))

    def receive(self, now: float, timeout_s: float = 0.0) -> Inbox:
        """All messages that are there, waiting up to `timeout_s` for the first.

        Raises:
            DeadlineError: the buffer was silent beyond the timeout although it owed an answer.
            PeerError: the buffer refused something that this actor sent.
        """
        inbox = Inbox([], [])
        message = self.dealer.receive(timeout_s)
        while message is not None:
            self._last_heard = now
            self._take(message, inbox, now)
            message = self.dealer.receive()
        if not self._unacknowledged:
            self._last_heard = now
        elif now - self._last_heard > self._timeout_s:
            raise DeadlineError(
                f"buffer at {self.dealer.address} acknowledged nothing for {self._timeout_s:g} s; "
                f"{len(self._unacknowledged)} segments wait"
            )
        self._flush()
        return inbox

    def heartbeat(self, now: float, every_s: float) -> None:
        """Tell the buffer that this actor lives, at most every `every_s`."""
        if now - self._last_sent >= every_s:
            self._last_sent = now
            self._send(Message("heartbeat"))

    def close(self) -> None:
        self._send(Message("bye"))
        self.dealer.close()

    def _take(self, message: Message, inbox: Inbox, now: float) -> None:
        if message.kind == "leases":
            leases = read_leases(message)
            self._leases_received += len(leases)
            self._leases |= {(lease.rollout_id, lease.lease_epoch): None for lease in leases}
            inbox.leases.extend(leases)
        elif message.kind == "ack":
            for key in read_ack(message):
                self._acknowledged(key)
        elif message.kind == "revoked":
            rollout_id, epoch = get(message, "rollout_id", int), get(message, "lease_epoch", int)
            self._revoked(rollout_id, epoch)
            inbox.revoked.append((rollout_id, epoch))
        elif message.kind == "scored":
            self._ended((get(message, "rollout_id", int), get(message, "lease_epoch", int)))
        elif message.kind == "rejoin":
            since = self._rejoining_since
            if since is None or now - since >= REJOIN_S:
                self._rejoining_since = now
                self._rejoin()
        elif message.kind == "welcome":
            self._rejoining_since = None
        elif message.kind == "stop":
            inbox.stop = True
        elif message.kind == "error":
            raise _refusal(message)
        else:
            raise PeerError(f"buffer sent an unknown message {message.kind!r}")

    def _rejoin(self) -> None:
        """The buffer does not know this actor (any more): start over, and repeat what it owes."""
        self._last_request = None
        self._leases_received = 0
        leases = [list(lease) for lease in self._leases]
        self._send(Message("hello", {**self._hello, "leases": leases}))
        for message in (*self._unacknowledged.values(), *self._unscored.values()):
            self._send(message)

    def _flush(self) -> None:
        while self._queue:
            message = self._queue[0]
            size = message.num_bytes
            if self._unacknowledged and self._unacknowledged_bytes + size > self._credit:
                return
            self._queue.popleft()
            if message.kind == "segment":
                self._unacknowledged[_key(message)] = message
                self._unacknowledged_bytes += size
            else:
                self._unscored[_key(message)[:2]] = message
            self._send(message)

    def _acknowledged(self, key: _Key) -> None:
        message = self._unacknowledged.pop(key, None)
        if message is None:
            return
        self._unacknowledged_bytes -= message.num_bytes
        if message.values["status"] == SegmentStatus.SUSPENDED:
            self._ended(key[:2])

    def _revoked(self, rollout_id: int, epoch: int) -> None:
        for key in [key for key in self._unacknowledged if key[:2] == (rollout_id, epoch)]:
            self._acknowledged(key)
        self._ended((rollout_id, epoch))

    def _ended(self, lease: _Lease) -> None:
        self._unscored.pop(lease, None)
        self._leases.pop(lease, None)

    def _send(self, message: Message) -> None:
        self.dealer.send(message)


def _refusal(message: Message) -> AsyncR1Error:
    error = read_error(message)
    if isinstance(error, ProtocolVersionError):
        return error
    return PeerError(f"buffer refused a message: {type(error).__name__}: {error}")


def _key(message: Message) -> _Key:
    values = message.values
    return values["rollout_id"], values["lease_epoch"], values.get("token_offset", -1)
