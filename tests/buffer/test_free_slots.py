"""The emptiest actor, in lockstep with a search over all of them."""

from hypothesis import given, settings
from hypothesis import strategies as st

from buffer.free_slots import FreeSlots
from tests.buffer.naive_leasing import NaiveFreeSlots

PEERS = [b"a", b"b", b"c", b"d"]
operations = st.one_of(
    st.tuples(st.just("join"), st.sampled_from(PEERS)),
    st.tuples(st.just("leave"), st.sampled_from(PEERS)),
    st.tuples(st.just("requested"), st.sampled_from(PEERS), st.integers(-2, 6), st.integers(0, 6)),
    st.tuples(st.just("grant"), st.integers(1, 3)),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(operations, max_size=60))
def test_lockstep(script: list[tuple]) -> None:
    slots, naive = FreeSlots(), NaiveFreeSlots()
    for name, *args in script:
        if name == "join":
            slots.join(args[0], 0, 0.0)
            naive.join(args[0])
        elif name == "leave":
            slots.leave(args[0])
            naive.leave(args[0])
        elif name == "requested" and args[0] in naive.actors:
            slots.requested(*args)
            naive.requested(*args)
        elif name == "grant" and (peer := naive.emptiest()) is not None:
            slots.granted(peer, args[0])
            naive.granted(peer, args[0])
        assert slots.emptiest() == naive.emptiest()
        state = {peer: [a.free_slots, a.granted] for peer, a in slots.actors.items()}
        assert state == naive.actors


def test_requests_that_nothing_answers_do_not_pile_up() -> None:
    slots = FreeSlots()
    for peer in PEERS:
        slots.join(peer, 0, 0.0)
    for i in range(5000):
        slots.requested(PEERS[i % 4], 1 + i, 0)
    assert len(slots._heap) < 100
    assert slots.emptiest() == PEERS[4999 % 4]
