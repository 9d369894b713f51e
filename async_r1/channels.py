"""ZeroMQ sockets of the two shapes that the system uses; the only module that imports zmq.

One ROUTER (a server) and many DEALERs (its peers). Both keep order per peer and drop nothing:
queues have no limit here because credits and outstanding requests bound them above.
"""

import math
import os
from collections.abc import Sequence

import zmq

from async_r1.errors import PeerError, WireError
from async_r1.wire import Message, decode, encode

COPIED_BYTES = 16384  # frames below this are copied out of ZeroMQ's memory


class Dealer:
    """A peer's socket, known to the server by its name and process."""

    def __init__(self, address: str, name: str) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, f"{name}/{os.getpid()}".encode())
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.LINGER, 1000)
        self._socket.connect(address)
        self.address = address

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """For a poller over several channels."""
        return self._socket

    def send(self, message: Message) -> None:
        self._socket.send_multipart(encode(message), copy=False)

    def receive(self, timeout_s: float = 0.0) -> Message | None:
        """The next message, or None when none came in time.

        Raises:
            WireError: the server sent something that is no message.
        """
        if timeout_s <= 0:  # asked between any two engine steps
            if not int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                return None
        elif not self._socket.poll(int(timeout_s * 1000)):
            return None
        return decode([frame.buffer for frame in self._socket.recv_multipart(copy=False)])

    def close(self) -> None:
        self._socket.close()


class Router:
    """A server's socket: receives with the peer's identity, answers to it."""

    def __init__(self, address: str) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.LINGER, 1000)
        self._socket.setsockopt(zmq.MAXMSGSIZE, 1 << 31)
        try:
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self._socket.close()
            raise PeerError(f"cannot bind {address}: {error}") from None
        self.address = address

    @property
    def socket(self) -> zmq.Socket[bytes]:
        return self._socket

    def receive(self, timeout_s: float = 0.0) -> tuple[bytes, Message | WireError] | None:
        """The next (peer, message), or None when none came in time.

        A malformed message is returned as its `WireError`: one bad peer must not stop a server.
        """
        if not self._socket.poll(int(timeout_s * 1000)):
            return None
        return self._take(0)[0]

    def receive_all(
        self, timeout_s: float = 0.0, *, max_messages: int = 512, max_bytes: int = 4 << 20
    ) -> list[tuple[bytes, Message | WireError]]:
        """All that is there, each as `receive` gives it, waiting up to `timeout_s` for the first.

        It ends with the message that reaches a bound; what is left comes with the next call.
        """
        if not self._socket.poll(int(timeout_s * 1000)):
            return []
        received: list[tuple[bytes, Message | WireError]] = []
        num_bytes = 0
        try:
            while len(received) < max_messages and num_bytes < max_bytes:
                item, size = self._take(zmq.NOBLOCK)
                received.append(item)
                num_bytes += size
        except zmq.Again:
            pass
        return received

    def _take(self, flags: int) -> tuple[tuple[bytes, Message | WireError], int]:
        """A message and its size [bytes].

        Small frames are copied: ZeroMQ keeps many of them in one block of memory, which a frame
        that somebody goes on holding would keep whole.
        """
        receive = self._socket.recv
        frame = receive(flags, copy=False)
        peer, frames, size = frame.bytes, [], 0
        while frame.more:
            frame = receive(0, copy=False)
            length = len(frame)
            frames.append(frame.bytes if length < COPIED_BYTES else frame.buffer)
            size += length
        try:
            return (peer, decode(frames)), size
        except WireError as error:
            return (peer, error), size

    def send(self, peer: bytes, message: Message) -> bool:
        """Send; False when the peer is not connected any more."""
        try:
            # What has no arrays is small: to copy it costs less than to keep track of it.
            self._socket.send_multipart([peer, *encode(message)], copy=not message.arrays)
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                return False
            raise
        return True

    def close(self) -> None:
        self._socket.close()


def wait_any(dealers: Sequence[Dealer], timeout_s: float, fds: Sequence[int] = ()) -> None:
    """Return when a dealer has a message or a file descriptor is readable, or after the timeout."""
    poller = zmq.Poller()
    for dealer in dealers:
        poller.register(dealer.socket, zmq.POLLIN)
    for fd in fds:
        poller.register(fd, zmq.POLLIN)
    poller.poll(math.ceil(timeout_s * 1000))


def peer_name(peer: bytes) -> str:
    """The role name in a peer's identity."""
    return peer.decode("utf-8", "replace").split("/")[0]
