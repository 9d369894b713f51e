"""What the journal of a run with two actors holds, against a model at the same weights."""

from collections import defaultdict

import numpy as np
import pytest
import torch

from async_r1 import segment_hash
from async_r1.channels import peer_name
from async_r1.journal_format import Record, read_records
from async_r1.segment_messages import read_segment
from async_r1.types import Segment, SegmentStatus
from async_r1.wire import Message
from tests.integration.runs import launch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """A short run whose weights hardly move, so that one model is the oracle for every version."""
    run = launch(
        tmp_path_factory.mktemp("two_actors"),
        "experiment=smoke",
        "actors.count=2",
        "actors.max_concurrent=8",
        "actors.segment_tokens=8",
        "actors.rollout_token_budget=12",
        "buffer.keep_zero_variance=true",
        "learner.lr=1e-12",
        "eval.every=0",
    )
    return list(read_records(run.journal))


@pytest.fixture(scope="module")
def journal(records: list[Record]) -> list[Message]:
    return [record.message for record in records]


@pytest.fixture(scope="module")
def rollouts(records: list[Record]) -> dict[int, list[tuple[str, Segment]]]:
    """(actor, segment) in order, of each rollout that was scored."""
    segments = defaultdict(list)
    for record in records:
        message = record.message
        if message.kind == "segment":
            actor = peer_name(record.peer)
            segments[message.values["rollout_id"]].append((actor, read_segment(message)))
    messages = [record.message for record in records]
    scored = {m.values["rollout_id"] for m in messages if m.kind == "score"}
    assert scored
    return {rollout_id: segments[rollout_id] for rollout_id in scored}


def test_concatenated_segments_are_the_rollout(
    rollouts: dict[int, list[tuple[str, Segment]]],
) -> None:
    for parts in rollouts.values():
        tokens = np.zeros(0, np.int32)
        for _, segment in parts:
            assert segment.token_offset == len(tokens)
            assert segment.prefix_hash == segment_hash.extend(0, tokens)
            tokens = np.concatenate([tokens, segment.token_ids])
        assert parts[-1][1].status is SegmentStatus.FINISHED


def test_a_rollout_resumed_on_another_actor_is_what_it_claims(
    rollouts: dict[int, list[tuple[str, Segment]]],
) -> None:
    from transformers import AutoModelForCausalLM

    from async_r1.config_dir import resolve_path

    model = AutoModelForCausalLM.from_pretrained(
        resolve_path("configs:checkpoints/nano"), dtype=torch.float32
    ).eval()
    moved = {i: parts for i, parts in rollouts.items() if len({actor for actor, _ in parts}) > 1}
    assert moved, "no rollout was resumed on another actor"
    for parts in moved.values():
        segments = [segment for _, segment in parts]
        tokens = np.concatenate([segment.token_ids for segment in segments])
        logprobs = np.concatenate([segment.behavior_logprobs for segment in segments])
        prompt = segments[0].prompt_ids
        assert prompt is not None
        ids = torch.tensor([[*prompt.tolist(), *tokens.tolist()]])
        with torch.no_grad():
            rows = torch.log_softmax(model(ids).logits[0, len(prompt) - 1 : -1].float(), -1)
        expected = rows[torch.arange(len(tokens)), torch.tensor(tokens.tolist())].numpy()
        assert np.abs(expected - logprobs).max() < 1e-4


def test_every_trained_group_is_the_rollouts_of_one_prompt(
    journal: list[Message], rollouts: dict[int, list[tuple[str, Segment]]]
) -> None:
    opened = {m.values["group_id"]: m.values for m in journal if m.kind == "group_opened"}
    draws = [m for m in journal if m.kind == "draw"]
    assert len(draws) == 4
    drawn = [group_id for draw in draws for group_id in draw.values["group_ids"]]
    assert len(drawn) == len(set(drawn)) == 16
    prompts = set()
    for group_id in drawn:
        members = opened[group_id]["rollout_ids"]
        tokens = {rollouts[member][0][1].prompt_ids.tobytes() for member in members}  # type: ignore[union-attr]
        assert len(members) == 4 and len(tokens) == 1
        prompts |= tokens
    assert len(prompts) == 16
