"""The bucket plan: every parameter once, in order, aligned, apart, inside its bucket."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_r1.weight_buckets import ALIGNMENT, ITEM_BYTES, ParameterSpec, plan_buckets

shapes = st.lists(st.integers(0, 40), max_size=3).map(tuple)
specs = st.builds(ParameterSpec, st.text(max_size=4), st.sampled_from(sorted(ITEM_BYTES)), shapes)


@settings(deadline=None, max_examples=100)
@given(st.lists(specs, max_size=12), st.integers(1, 4000))
def test_plan(parameters: list[ParameterSpec], max_bytes: int) -> None:
    buckets = plan_buckets(parameters, max_bytes)
    assert [spec for bucket in buckets for spec in bucket.specs] == parameters
    for bucket in buckets:
        assert bucket.specs and len(bucket.specs) == len(bucket.offsets)
        end = 0
        for spec, offset in zip(bucket.specs, bucket.offsets, strict=True):
            assert offset % ALIGNMENT == 0
            assert end <= offset < end + ALIGNMENT
            end = offset + math.prod(spec.shape) * ITEM_BYTES[spec.dtype]
        assert end <= bucket.num_bytes < end + ALIGNMENT
        assert len(bucket.specs) == 1 or bucket.num_bytes <= max_bytes
    for bucket, following in itertools.pairwise(buckets):
        first = following.specs[0].num_bytes
        assert bucket.num_bytes + first > max_bytes - ALIGNMENT, "room was left for the next one"


def test_padding_counts_towards_the_limit() -> None:
    small = [ParameterSpec(name, "float32", (1,)) for name in "ab"]
    assert [len(bucket.specs) for bucket in plan_buckets(small, 32)] == [2]
    assert [len(bucket.specs) for bucket in plan_buckets(small, 20)] == [1, 1]


def test_both_sides_plan_the_same() -> None:
    parameters = [ParameterSpec(f"p{i}", "float32", (i, 3)) for i in range(9)]
    assert plan_buckets(parameters, 200) == plan_buckets(list(parameters), 200)


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2), ("float16", 2)])
def test_num_bytes(dtype: str, size: int) -> None:
    assert ParameterSpec("w", dtype, (3, 5)).num_bytes == 15 * size
    assert ParameterSpec("scalar", dtype, ()).num_bytes == size
