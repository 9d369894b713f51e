"""The queue of indices in lockstep with a deque."""

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from buffer.curriculum.index_queue import IndexQueue


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["push", "push", "front", "pop", "remove"]), max_size=120))
def test_lockstep_with_a_deque(operations: list[str]) -> None:
    queue, twin = IndexQueue(), deque[int]()
    for number, operation in enumerate(operations):
        if operation == "push":
            queue.push(number)
            twin.append(number)
        elif operation == "front":
            queue.push_front(number)
            twin.appendleft(number)
        elif twin and operation == "pop":
            assert queue.pop() == twin.popleft()
        elif twin:
            gone = twin[number % len(twin)]
            queue.remove(gone)
            twin.remove(gone)
        assert len(queue) == len(twin) and queue.to_array().tolist() == list(twin)
        assert not twin or queue.first == twin[0]
