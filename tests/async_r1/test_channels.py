"""Sockets: order, identities, deadlines, and a server that no peer's bytes can stop."""

import os
import time
from collections.abc import Iterator

import numpy as np
import pytest
import zmq

from async_r1.channels import Dealer, Router, peer_name
from async_r1.errors import PeerError, WireError
from async_r1.wire import Message, encode


@pytest.fixture
def router() -> Iterator[Router]:
    router = Router("tcp://127.0.0.1:*")
    yield router
    router.close()


@pytest.fixture
def address(router: Router) -> str:
    return router.socket.getsockopt(zmq.LAST_ENDPOINT).decode()


@pytest.fixture
def dealer(address: str) -> Iterator[Dealer]:
    dealer = Dealer(address, "actor_000")
    yield dealer
    dealer.close()


def test_messages_keep_their_order_and_bytes(router: Router, dealer: Dealer) -> None:
    sent = [Message("n", {"i": i}, {"a": np.arange(i * 500, dtype=np.int32)}) for i in range(40)]
    for message in sent:
        dealer.send(message)
    for expected in sent:
        received = router.receive(5)
        assert received is not None
        peer, message = received
        assert peer == f"actor_000/{os.getpid()}".encode() and peer_name(peer) == "actor_000"
        assert isinstance(message, Message)
        assert message.values == expected.values
        assert message.arrays["a"].tolist() == expected.arrays["a"].tolist()
        assert not message.arrays["a"].flags.writeable
        assert router.send(peer, message)
    for expected in sent:
        answer = dealer.receive(5)
        assert answer is not None and answer.values == expected.values


def test_receive_gives_up_in_time(router: Router, dealer: Dealer) -> None:
    started = time.monotonic()
    assert router.receive(0.1) is None and dealer.receive(0.1) is None
    assert 0.15 < time.monotonic() - started < 2
    assert router.receive() is None


GARBAGE = [
    [b""],
    [b"hello"],
    [b"\x94\x01\xa1x\x80\x91\x93\xa1a\xa2i4\x05", b"short"],
    [os.urandom(1000)],
    [b"\xdf\xff\xff\xff\xff"],
    [b""] * 100,
]


@pytest.mark.parametrize("frames", GARBAGE)
def test_garbage_is_returned_as_an_error_and_the_next_message_arrives(
    router: Router, dealer: Dealer, frames: list[bytes]
) -> None:
    dealer.socket.send_multipart(frames)
    dealer.send(Message("fine"))
    received = router.receive(5)
    assert received is not None and isinstance(received[1], WireError)
    received = router.receive(5)
    assert received is not None and isinstance(received[1], Message)


def test_a_server_that_talks_nonsense_is_a_wire_error(router: Router, dealer: Dealer) -> None:
    dealer.send(Message("hello"))
    received = router.receive(5)
    assert received is not None
    router.socket.send_multipart([received[0], b"nonsense"])
    with pytest.raises(WireError):
        dealer.receive(5)


def test_sending_to_nobody_says_so(router: Router) -> None:
    assert router.send(b"nobody", Message("x")) is False


def test_a_taken_address_names_itself(address: str, router: Router) -> None:
    with pytest.raises(PeerError, match=f"cannot bind {address}"):
        Router(address)


def test_all_that_is_there_in_bounded_rounds(router: Router, dealer: Dealer) -> None:
    assert router.receive_all() == []
    sizes = [0, 10, 4095, 4096, 5000] * 4  # frames that are copied, and frames that are not
    for size in sizes:
        dealer.send(Message("n", {"size": size}, {"a": np.arange(size, dtype=np.int32)}))
    dealer.socket.send_multipart([b"no message"])
    rounds = []
    while sum(map(len, rounds)) < 21:
        rounds.append(router.receive_all(5, max_messages=8, max_bytes=40_000))
        assert rounds[-1]
    assert max(map(len, rounds)) <= 8 and router.receive_all() == []
    messages = [message for received in rounds for _, message in received]
    assert isinstance(messages.pop(), WireError)
    for message, size in zip(messages, sizes, strict=True):
        assert isinstance(message, Message) and message.values == {"size": size}
        assert message.arrays["a"].tolist() == list(range(size))
        assert not message.arrays["a"].flags.writeable
        assert [bytes(frame) for frame in message.frames or ()] == (
            [bytes(frame) for frame in encode(message)]
        )
    for received in rounds:  # the bound on bytes ends a round, with the message that reaches it
        assert sum(m.num_bytes for _, m in received[:-1] if isinstance(m, Message)) < 40_000
