"""Staleness, masks and drops against slow Python."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer.batches import assemble
from buffer.staleness import Left, Overdue, Staleness
from buffer.table import Draw
from tests.buffer.fakes import closed_group, prompt_tokens

histories = st.lists(st.integers(0, 12), min_size=1, max_size=8)


@settings(deadline=None, max_examples=100)
@given(histories, st.integers(0, 12), st.integers(0, 6))
def test_definition_and_mask(versions: list[int], consumed_at: int, eta: int) -> None:
    staleness = Staleness(eta, "mask")
    array = np.array(versions, np.int32)
    ages = [consumed_at - version if version < consumed_at else 0 for version in versions]
    assert staleness.of(array, consumed_at).tolist() == ages
    assert staleness.mask(array, consumed_at).tolist() == [int(age <= eta) for age in ages]


@settings(deadline=None, max_examples=50)
@given(histories, st.integers(0, 12), st.integers(0, 6))
def test_of_a_rollout_a_suffix_trains(versions: list[int], consumed_at: int, eta: int) -> None:
    """Versions only grow inside a rollout, so what is masked is a prefix of it."""
    mask = Staleness(eta, "mask").mask(np.array(sorted(versions), np.int32), consumed_at)
    assert mask.tolist() == sorted(mask.tolist())


@pytest.mark.parametrize(
    ("policy", "versions", "drops"),
    [
        ("mask", [[7, 7], [7, 7]], False),
        ("mask", [[0, 7], [0, 0]], False),
        ("mask", [[0, 0], [4, 4]], True),  # nothing of it is inside the bound
        ("wait", [[0, 0], [4, 4]], True),
        ("wait", [[0, 7], [0, 0]], False),
        ("drop", [[5, 5], [5, 6]], False),  # exactly at the bound
        ("drop", [[5, 5], [4, 6]], True),
        ("drop", [[0, 0], [0, 0]], True),
    ],
)
def test_which_groups_leave_untrained(
    policy: Overdue, versions: Sequence[Sequence[int]], drops: bool
) -> None:
    group = closed_group(0, [0, 1], versions=versions)
    assert Staleness(2, policy).drops(group, 7) is drops


@settings(deadline=None, max_examples=100)
@given(st.lists(histories, min_size=1, max_size=4), st.integers(0, 12), st.integers(0, 6))
def test_a_group_leaves_as_its_tokens_say(
    versions: list[list[int]], consumed_at: int, eta: int
) -> None:
    """Against a look at every token."""
    group = closed_group(0, range(len(versions)), versions=versions)
    inside = [consumed_at - version <= eta for history in versions for version in history]
    assert Staleness(eta, "mask").drops(group, consumed_at) is (not any(inside))
    assert Staleness(eta, "wait").drops(group, consumed_at) is (not any(inside))
    assert Staleness(eta, "drop").drops(group, consumed_at) is (not all(inside))


@pytest.mark.parametrize(
    ("left", "waits"),
    [
        ([], False),
        ([Left(True, 5, 7)], False),
        ([Left(True, 4, 7)], True),
        ([Left(False, 4, 7)], False),  # closed already: waiting brings nothing
        ([Left(True, 6, 7), Left(False, 4, 7)], True),  # the live one goes first
        ([Left(False, 4, 7), Left(True, 6, 7)], False),
    ],
)
def test_must_wait(left: list[Left], waits: bool) -> None:
    assert Staleness(2, "wait").must_wait(left) is waits
    assert not Staleness(2, "mask").must_wait(left)
    assert not Staleness(2, "drop").must_wait(left)


def make_draw(order: Sequence[int], totals: Sequence[Sequence[float]], **groups: Any) -> Any:
    made = {i: closed_group(i, totals[i], **groups) for i in order}
    probs = [0.1 * (i + 1) for i in order]
    return Draw(item_ids=list(order), items=[made[i] for i in order], inclusion_probs=probs)


def test_batch_has_groups_in_lease_order_and_members_in_theirs() -> None:
    totals = [[0.0, 1.0], [2.0, 5.0, 8.0], [1.0, 0.0]]
    draw = make_draw([2, 0, 1], totals)
    batch = assemble(
        draw, batch_id=9, policy_version=1, staleness=Staleness(4, "mask"), info={"x": 1}
    )
    assert (batch.batch_id, batch.policy_version, batch.info) == (9, 1, {"x": 1})
    assert batch.rollout_ids.tolist() == [0, 1, 100, 101, 102, 200, 201]
    assert batch.item_ids.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert batch.groups.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert batch.rewards.tolist() == [0, 1, 2, 5, 8, 1, 0]
    assert batch.advantages.tolist() == [-0.5, 0.5, -3, 0, 3, 0.5, -0.5]
    assert np.allclose(batch.inclusion_probs, [0.1, 0.1, 0.2, 0.2, 0.2, 0.3, 0.3])
    assert batch.completion_lens.tolist() == [3] * 7
    tokens = [rollout * 10 + i for rollout in batch.rollout_ids.tolist() for i in range(3)]
    assert batch.token_ids.tolist() == tokens
    prompts = [prompt_tokens(f"train/{group}") for group in batch.item_ids.tolist()]
    assert batch.prompt_ids.tolist() == np.concatenate(prompts).tolist()
    assert batch.levels.tolist() == [1, 1, 2, 2, 2, 3, 3]


def test_masked_tokens_and_members_stay_in_the_batch_and_in_the_baseline() -> None:
    versions = [[0, 0, 0], [0, 5, 6]]
    draw = make_draw([0], [[0.0, 1.0]], versions=versions)
    batch = assemble(draw, batch_id=1, policy_version=7, staleness=Staleness(2, "mask"), info={})
    assert batch.versions.tolist() == [0, 0, 0, 0, 5, 6]
    assert batch.mask.tolist() == [0, 0, 0, 0, 1, 1]
    assert batch.advantages.tolist() == [-0.5, 0.5]


def test_tokens_that_the_policy_did_not_sample_never_train() -> None:
    draw = make_draw([0], [[0.0, 1.0]], mask=np.array([1, 0, 1], np.uint8))
    batch = assemble(draw, batch_id=1, policy_version=0, staleness=Staleness(2, "mask"), info={})
    assert batch.mask.tolist() == [1, 0, 1, 1, 0, 1]
