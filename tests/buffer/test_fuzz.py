"""Ten thousand spoilt messages to a live server, from an actor with a lease of its own, while
another goes on undisturbed: each is answered as it must be, and none leaves a trace."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.client import BufferClient as ActorClient
from async_r1 import segment_hash, wire
from async_r1.channels import Dealer
from async_r1.errors import ProtocolVersionError, Refusal
from async_r1.messages import read_ack, read_batch, read_leases, write_score
from async_r1.segment_messages import write_segment
from async_r1.types import FinishReason, Lease, Score
from async_r1.wire import Message, encode
from buffer.journal import read_journal
from buffer.refusals import BURST, INTERVAL_S
from learner.client import BufferClient as LearnerClient
from tests.buffer.fakes import make_segment
from tests.buffer.mutants import Frames, mutant, verdict
from tests.buffer.test_server import Server, ask, expect

VOCAB_SIZE = 64
NUM_MUTANTS = 10_000
ROUND = 100


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"vocab_size": VOCAB_SIZE}))
    server = Server(
        tmp_path / "run",
        model={"path": str(model)},
        learner={"groups_per_update": 1},
        task={"num_train": 20, "num_eval": 4, "levels": [1], "max_new_tokens": 4096},
    )
    yield server
    server.close()


class Actor:
    """An actor with one lease, which it serves a segment at a time."""

    def __init__(self, server: Server, index: int) -> None:
        self.dealer = server.dealer(f"actor_{index:03d}")
        assert ask(self.dealer, "hello", role="actor", index=index).kind == "welcome"
        answer = ask(self.dealer, "lease_request", free_slots=1, leases_received=0)
        self.lease: Lease = read_leases(answer)[0]
        self.tokens: list[int] = []
        self.sent: list[Frames] = []
        self.keys: set[tuple[int, int, int]] = set()

    @property
    def next_key(self) -> tuple[int, int, int, int]:
        prefix_hash = segment_hash.extend(0, np.asarray(self.tokens, np.int32))
        return self.lease.rollout_id, self.lease.lease_epoch, len(self.tokens), prefix_hash

    def next(self, tokens: list[int], finish: bool = False) -> Frames:
        segment = make_segment(
            tokens,
            prefix=self.tokens,
            finish=FinishReason.STOP if finish else None,
            prompt=None if self.tokens else (1, 2),
            rollout_id=self.lease.rollout_id,
        )
        return [bytes(frame) for frame in encode(write_segment(segment))]

    def advance(self, tokens: list[int], finish: bool = False) -> None:
        """Send the next segment, and have it acknowledged."""
        frames, key = self.next(tokens, finish), self.next_key
        self.dealer.socket.send_multipart(frames)
        assert read_ack(expect(self.dealer)) == [key[:3]]
        self.keys.add(key[:3])
        self.tokens += tokens
        self.sent.append(frames)

    def score(self, total: float) -> None:
        rewards = {"task": total, "total": total}
        self.dealer.send(
            write_score(Score(rollout_id=self.lease.rollout_id, lease_epoch=1, rewards=rewards,
                              text=""))
        )  # fmt: skip


def answers(dealer: Dealer, count: int) -> Counter[str]:
    """The kinds of the answers to `count` messages."""
    kinds: Counter[str] = Counter()
    while kinds.total() < count:
        message = expect(dealer)
        if message.kind == "error":
            assert message.values["reason"] in list(Refusal)
            assert message.values["error"] in ("WireError", "ProtocolError", "ProtocolVersionError")
        kinds[message.kind] += len(read_ack(message)) if message.kind == "ack" else 1
    return kinds


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_spoilt_messages_are_counted_answered_and_leave_no_trace(server: Server, seed: int) -> None:
    rng = np.random.default_rng(seed)
    good, bad = Actor(server, 0), Actor(server, 1)
    bad.advance([3, 4, 5])
    others = [
        Message("heartbeat"),
        Message("lease_request", {"free_slots": 0, "leases_received": 1}),
        Message("hello", {"role": "actor", "index": 1}),
        Message("batch_request", {"policy_version": 0}),
        Message("step_done", {"step": 1, "policy_version": 1}),
        write_score(Score(rollout_id=bad.lease.rollout_id, lease_epoch=1,
                          rewards={"task": 1.0, "total": 1.0}, text="x")),
    ]  # fmt: skip
    bases = [
        *bad.sent,
        bad.next(rng.integers(0, VOCAB_SIZE, 40).tolist()),
        bad.next([6, 7]),
        bad.next([8], finish=True),
        *[[bytes(frame) for frame in encode(message)] for message in others],
    ]
    expected: Counter[str] = Counter()
    for start in range(0, NUM_MUTANTS, ROUND):
        this_round: Counter[str] = Counter()
        while this_round.total() < ROUND:
            frames = mutant(bases[int(rng.integers(len(bases)))], rng)
            answer = verdict(
                frames,
                VOCAB_SIZE,
                sent=bad.sent,
                next_key=bad.next_key,
                others=good.keys,
                coming=good.next_key[:3],
            )
            if answer != "unclear":
                bad.dealer.socket.send_multipart(frames)
                this_round[answer] += 1
        good.advance([start // ROUND % VOCAB_SIZE])  # served among them
        assert answers(bad.dealer, ROUND) == this_round
        expected += this_round
    assert expected["error"] > 0.7 * NUM_MUTANTS and min(expected.values()) > 10, expected

    for actor, total in ((good, 1.0), (bad, 0.0)):
        actor.advance([9, 9], finish=True)
        actor.score(total)
    learner = server.dealer("learner_000")
    ask(learner, "hello", role="learner", name="l", policy_version=0)
    batch = read_batch(ask(learner, "batch_request", policy_version=0))
    lengths = batch.completion_lens.tolist()
    parts = np.split(batch.token_ids, np.cumsum(lengths)[:-1])
    assert sorted(part.tolist() for part in parts) == sorted([good.tokens, bad.tokens])
    journaled = [m for m in read_journal(server.run_dir.journal) if m.kind == "segment"]
    assert len(journaled) == len(good.sent) + len(bad.sent)

    ask(learner, "step_done", batch_id=1, step=1, policy_version=1, trained_tokens=1)
    (line,) = server.run_dir.metrics_file("buffer").read_text().splitlines()
    row: dict[str, Any] = json.loads(line)
    reasons = {name: row[name] for name in row if name.startswith("wire/rejected/")}
    assert sum(reasons.values()) == row["wire/rejected"]
    assert expected["error"] <= row["wire/rejected"] <= expected["error"] + expected["revoked"]
    assert row["wire/duplicates"] == expected["ack"]
    assert set(reasons) >= {f"wire/rejected/{reason}" for reason in (
        "malformed", "protocol_version", "length_mismatch", "logprobs", "vocabulary",
        "unknown_lease", "other_bytes", "out_of_order",
    )}  # fmt: skip
    learner.send(Message("finish", {"policy_version": 1}))
    assert expect(learner).kind == "finished"
    learner.send(Message("bye"))
    code, stderr = server.wait()
    assert code == 0, stderr
    lines = [line for line in stderr.splitlines() if "rejected" in line]
    assert 0 < len(lines) <= (BURST + 1) * (row["wall_s"] / INTERVAL_S + 2)


def test_a_peer_of_another_protocol_version_is_told_so(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "PROTOCOL_VERSION", 7)  # of this process alone
    actor = ActorClient(server.address, "actor_000", 0, 20.0)
    with pytest.raises(ProtocolVersionError, match="must be 1, got 7"):
        actor.join(0.0)
    actor.dealer.close()
    learner = LearnerClient(server.address, "learner_000", 20.0)
    with pytest.raises(ProtocolVersionError, match="must be 1, got 7"):
        learner.hello(0)
    learner.close()


BAD_SEGMENTS: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "not a number": ("WireError", "logprobs", lambda f: f("behavior_logprobs", [-1.0, np.nan])),
    "infinite": ("WireError", "logprobs", lambda f: f("behavior_logprobs", [-np.inf, -1.0])),
    "more likely than sure": ("WireError", "logprobs", lambda f: f("behavior_logprobs", [0.5, 0])),
    "lengths": ("WireError", "length_mismatch", lambda f: f("behavior_logprobs", [-1.0])),
    "vocabulary": ("WireError", "vocabulary", lambda f: f("token_ids", [3, VOCAB_SIZE])),
    "a prompt outside": ("WireError", "vocabulary", lambda f: f("prompt_ids", [VOCAB_SIZE])),
    "offset": ("ProtocolError", "out_of_order", lambda f: f("token_offset", 1)),
    "prefix": ("ProtocolError", "out_of_order", lambda f: f("prefix_hash", 1)),
    "too long": ("ProtocolError", "too_long", lambda f: f("many", 4097)),
    "another rollout": ("revoked", "unknown_lease", lambda f: f("rollout_id", 99)),
    "a lease to come": ("revoked", "unknown_lease", lambda f: f("lease_epoch", 2)),
}


def test_each_bad_segment_is_refused_by_its_name(server: Server) -> None:
    actor = Actor(server, 0)
    for error, reason, change in BAD_SEGMENTS.values():
        message = write_segment(make_segment([3, 4], rollout_id=actor.lease.rollout_id))

        def changed(name: str, value: Any, message: Message = message) -> Message:
            if name == "many":
                return write_segment(make_segment([1] * value, rollout_id=actor.lease.rollout_id))
            if name in message.arrays:
                array = np.asarray(value, message.arrays[name].dtype)
                return Message("segment", message.values, {**message.arrays, name: array})
            return Message("segment", {**message.values, name: value}, message.arrays)

        actor.dealer.send(change(changed))
        answer = expect(actor.dealer)
        assert answer.values["reason"] == reason, (answer, reason)
        assert (answer.kind if answer.kind == "revoked" else answer.values["error"]) == error
    actor.advance([3, 4])  # and nothing of them is left
