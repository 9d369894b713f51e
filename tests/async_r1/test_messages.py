"""Every message kind that carries records: what is written is read; contradictions are refused."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from async_r1.errors import WireError
from async_r1.fields import get
from async_r1.messages import (
    read_batch,
    read_leases,
    read_score,
    read_surprise,
    write_batch,
    write_leases,
    write_score,
)
from async_r1.segment_messages import read_segment, write_segment
from async_r1.types import (
    Batch,
    Lease,
    LeaseKind,
    Score,
    Segment,
    SegmentStatus,
    VersionSpan,
)
from async_r1.wire import Message, decode, encode
from tests.async_r1.message_strategies import (
    SCALARS,
    batches,
    leases,
    scores,
    segments,
)

quick = settings(deadline=None, max_examples=50)


def through_the_wire(message: Message) -> Message:
    return decode([bytes(frame) for frame in encode(message)])


def same(left: Any, right: Any) -> bool:
    """Equal in every field, arrays bit by bit and in dtype."""
    for field in dataclasses.fields(left):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            if a.dtype != b.dtype or a.tobytes() != b.tobytes():
                return False
        elif type(a) is not type(b) or a != b:
            return False
    return True


@quick
@given(segments())
def test_segment(segment: Segment) -> None:
    assert same(read_segment(through_the_wire(write_segment(segment))), segment)


@quick
@given(st.lists(leases, max_size=4))
def test_leases(sent: list[Lease]) -> None:
    received = read_leases(through_the_wire(write_leases(sent)))
    assert len(received) == len(sent)
    assert all(same(a, b) for a, b in zip(received, sent, strict=True))


@quick
@given(scores)
def test_score(score: Score) -> None:
    assert same(read_score(through_the_wire(write_score(score))), score)


def test_a_score_without_rewards_says_why() -> None:
    score = Score(rollout_id=1, lease_epoch=2, rewards={}, text="x", error="took more than 1 s")
    assert same(read_score(through_the_wire(write_score(score))), score)
    assert "error" not in good_score().values  # as peers that know nothing of it send and expect
    assert read_score(good_score()).error == ""


@quick
@given(batches())
def test_batch(batch: Batch) -> None:
    assert same(read_batch(through_the_wire(write_batch(batch))), batch)


# -- what is refused -----------------------------------------------------------------------


def good_segment() -> Message:
    return write_segment(
        Segment(
            rollout_id=1,
            lease_epoch=1,
            token_offset=0,
            prefix_hash=0,
            status=SegmentStatus.STREAMING,
            finish_reason=None,
            spans=(VersionSpan(3, 2), VersionSpan(4, 1)),
            prefill_version=3,
            swaps=(2,),
            token_ids=np.array([5, 6, 7], np.int32),
            behavior_logprobs=np.array([-1, -2, 0], np.float32),
            mask=np.array([1, 0, 1], np.uint8),
            prompt_ids=np.array([9], np.int32),
        )
    )


def good_leases() -> Message:
    lease = Lease(
        rollout_id=1,
        lease_epoch=1,
        kind=LeaseKind.GENERATE,
        group_id=0,
        member=0,
        prompt_id="p",
        level=1,
        seed=0,
        token_budget=0,
        max_new_tokens=9,
        temperature=1.0,
        prefix_ids=np.array([1, 2], np.int32),
    )
    return write_leases([lease])


def good_score() -> Message:
    return write_score(Score(rollout_id=1, lease_epoch=1, rewards={"task": 1, "total": 1}, text=""))


def good_batch() -> Message:
    fields = {field.name for field in dataclasses.fields(Batch)}
    per_token = {"token_ids", "behavior_logprobs", "versions", "mask", "prompt_ids"}
    floats = {"behavior_logprobs", "rewards", "advantages", "inclusion_probs"}
    arrays: dict[str, Any] = {}
    for name in fields - SCALARS:
        dtype = np.float32 if name in floats else np.int32
        dtype = np.uint8 if name in ("mask", "truncated") else dtype
        arrays[name] = np.full(4 if name in per_token else 2, 2 if "lens" in name else 0, dtype)
    return write_batch(Batch(batch_id=1, policy_version=0, **arrays))


READERS: dict[str, tuple[Callable[[], Message], Callable[[Message], Any]]] = {
    "segment": (good_segment, read_segment),
    "leases": (good_leases, read_leases),
    "score": (good_score, read_score),
    "batch": (good_batch, read_batch),
}


def edited(message: Message, values: dict[str, Any], arrays: dict[str, Any]) -> Message:
    """The message with some values replaced; None takes one away."""
    new_values = {**message.values, **values}
    new_arrays = {**message.arrays, **arrays}
    return Message(
        message.kind,
        {name: value for name, value in new_values.items() if value is not None},
        {name: array for name, array in new_arrays.items() if array is not None},
    )


def test_surprise_of_a_step() -> None:
    ids, values = np.array([3, 9], np.int32), np.array([0.5, 0.0], np.float32)
    arrays = {"item_ids": ids, "surprise": values}
    assert read_surprise(through_the_wire(Message("step_done", {}, arrays))) == ([3, 9], [0.5, 0.0])
    assert read_surprise(Message("step_done")) == ([], [])
    bad: list[dict[str, Any]] = [
        {"item_ids": ids},
        {"surprise": values},
        {"item_ids": ids, "surprise": values[:1]},
        {"item_ids": -ids, "surprise": values},
        {"item_ids": ids, "surprise": -values - 1},
        {"item_ids": ids, "surprise": values * np.float32("nan")},
        {"item_ids": ids, "surprise": np.array([np.inf, 0], np.float32)},
        {"item_ids": ids, "surprise": ids},
    ]
    for arrays in bad:
        with pytest.raises(WireError, match="step_done"):
            read_surprise(Message("step_done", {}, arrays))


def test_a_batch_with_weights_needs_probabilities() -> None:
    for values in ({"beta": 1.5}, {"beta": -0.1}, {"beta": 1.0}, {"beta": None}):
        with pytest.raises(WireError, match=r"batch\.beta"):  # its probabilities are 0
            read_batch(edited(good_batch(), values, {}))


def lease_row(**values: Any) -> dict[str, Any]:
    row = {**good_leases().values["leases"][0], **values}
    return {"leases": [{name: value for name, value in row.items() if value is not None}]}


def i4(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def f4(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


REFUSED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("segment", {"rollout_id": "1"}, {}),
    ("segment", {"rollout_id": -1}, {}),
    ("segment", {"rollout_id": True}, {}),
    ("segment", {"lease_epoch": None}, {}),
    ("segment", {"token_offset": 1.0}, {}),
    ("segment", {"status": "asleep"}, {}),
    ("segment", {"status": "finished"}, {}),  # without a reason
    ("segment", {"finish_reason": "stop"}, {}),  # while streaming
    ("segment", {"status": "finished", "finish_reason": "bored"}, {}),
    ("segment", {"spans": [[3, 2]]}, {}),
    ("segment", {"spans": [[3, 2], [4, 2]]}, {}),
    ("segment", {"spans": [[3, 4], [4, -1]]}, {}),
    ("segment", {"spans": [[3, 3], [4, 0]]}, {}),
    ("segment", {"spans": [[-1, 3]]}, {}),
    ("segment", {"spans": [[2**31, 3]]}, {}),  # would not fit the version array
    ("segment", {"spans": [[3, True], [4, 2]]}, {}),
    ("segment", {"spans": [3]}, {}),
    ("segment", {"swaps": [1.5]}, {}),
    ("segment", {}, {"token_ids": None}),
    ("segment", {}, {"token_ids": f4(5, 6, 7)}),
    ("segment", {}, {"token_ids": i4(5, -6, 7)}),
    ("segment", {"spans": []}, {name: None for name in ("mask",)}),
    ("segment", {}, {"behavior_logprobs": f4(-1, -2)}),
    ("segment", {}, {"behavior_logprobs": f4(-1, float("nan"), 0)}),
    ("segment", {}, {"behavior_logprobs": f4(-1, float("-inf"), 0)}),
    ("segment", {}, {"behavior_logprobs": f4(-1, 0.5, 0)}),
    ("segment", {}, {"mask": np.array([1, 0], np.uint8)}),
    ("segment", {}, {"mask": np.array([1, 2, 0], np.uint8)}),
    ("segment", {}, {"prompt_ids": i4()}),
    ("segment", {}, {"prompt_ids": i4(-1)}),
    (
        "segment",  # nothing, over and over
        {"spans": []},
        {"token_ids": i4(), "behavior_logprobs": f4(), "mask": None},
    ),
    ("leases", {"leases": [7]}, {}),
    ("leases", {"leases": {}}, {}),
    ("leases", {}, {"prefix_ids": i4(1)}),
    ("leases", {}, {"prefix_ids": i4(1, 2, 3)}),
    ("leases", lease_row(kind="sell"), {}),
    ("leases", lease_row(temperature="hot"), {}),
    ("leases", lease_row(temperature=None), {}),
    ("leases", lease_row(prefix_len=-2), {}),
    ("leases", lease_row(prompt_id=7), {}),
    ("score", {"rewards": {"task": 1.0}}, {}),
    ("score", {"rewards": {"total": 1.0}}, {}),
    ("score", {"rewards": {b"task": 1.0, "other": 1.0}}, {}),  # mixed keys cannot be sorted
    ("score", {"rewards": {"task": 1.0, "total": float("nan")}}, {}),
    ("score", {"rewards": {"task": float("inf"), "total": 1.0}}, {}),
    ("score", {"rewards": {"task": 1.0, "total": 1e39}}, {}),  # infinite as a float32
    ("score", {"rewards": {"task": 1.0, "total": True}}, {}),
    ("score", {"rewards": {"task": 1.0, "total": 1.0, "x": "1"}}, {}),
    ("score", {"text": b"bytes"}, {}),
    ("score", {"error": "ValueError"}, {}),  # beside rewards
    ("score", {"error": 3, "rewards": {}}, {}),
    ("score", {"error": "", "rewards": {}}, {}),
    ("batch", {"info": []}, {}),
    ("batch", {}, {"rewards": f4(1)}),
    ("batch", {}, {"versions": i4(0)}),
    ("batch", {}, {"prompt_ids": i4(0)}),
    ("batch", {}, {"completion_lens": i4(5, -1)}),
    ("batch", {}, {"advantages": i4(0, 0)}),
    ("batch", {}, {"levels": None}),
]


@pytest.mark.parametrize(("kind", "values", "arrays"), REFUSED)
def test_contradictions_are_refused(
    kind: str, values: dict[str, Any], arrays: dict[str, Any]
) -> None:
    make, read = READERS[kind]
    read(through_the_wire(make()))
    with pytest.raises(WireError, match=kind if kind != "leases" else "lease"):
        read(through_the_wire(edited(make(), values, arrays)))


junk = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=3)
junk = junk | st.lists(junk, max_size=3) | st.dictionaries(st.text() | st.binary(), junk)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(sorted(READERS)), st.data())
def test_any_replaced_value_is_read_or_refused(kind: str, data: st.DataObject) -> None:
    """One field of a good message is replaced by anything: no other exception comes out."""
    make, read = READERS[kind]
    message = make()
    name = data.draw(st.sampled_from(sorted({*message.values, *message.arrays})))
    if name in message.values:
        value = data.draw(junk)
        if kind == "leases" and data.draw(st.booleans()):
            value = lease_row(**{data.draw(st.sampled_from(sorted(ROW))): value})["leases"]
        message = edited(message, {name: value}, {})
    else:
        dtype = data.draw(st.sampled_from([np.int32, np.float32, np.uint8]))
        message = edited(message, {}, {name: data.draw(hnp.arrays(dtype, st.integers(0, 5)))})
    try:
        read(through_the_wire(message))
    except WireError:
        pass


ROW = good_leases().values["leases"][0]


def test_get_converts_integers_to_floats_only() -> None:
    message = Message("x", {"a": 1, "b": True})
    assert type(get(message, "a", float)) is float
    for name, kind in (("a", str), ("b", int), ("b", float), ("missing", int)):
        with pytest.raises(WireError, match=rf"x\.{name} must be {kind.__name__}"):
            get(message, name, kind)
