"""A rollout against a twin of plain lists, in lockstep over random histories."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from async_r1 import segment_hash
from async_r1.errors import ProtocolError
from async_r1.types import FinishReason, LeaseKind, Segment, SegmentStatus, VersionSpan
from buffer.rollout import Rollout, RolloutState, Verdict
from tests.buffer.fakes import lease_to, logprobs_of, make_prompt, make_segment

REWARDS = {"task": 1.0, "total": 1.1}


@dataclass
class Twin:
    """What a rollout is, said as plainly as possible."""

    state: str = "pending"
    epoch: int = 0
    holder: bytes | None = None
    tokens: list[tuple[int, float, int]] = field(default_factory=list)  # id, log-prob, version
    of_this_lease: list[Segment] = field(default_factory=list)
    prompt: list[int] | None = None
    rewards: tuple[dict[str, float], str] | None = None
    owners: list[tuple[int, bytes]] = field(default_factory=list)  # lease and holder by token

    def lease(self, holder: bytes) -> None:
        self.epoch += 1
        self.holder, self.of_this_lease = holder, []
        self.state = "finished" if self.state == "finished" else "leased"

    def accept(self, segment: Segment, sender: bytes) -> str:
        if segment.lease_epoch != self.epoch or self.state == "expired":
            return "revoked"
        for known in self.of_this_lease:
            if known.token_offset == segment.token_offset:
                return "duplicate" if same(known, segment) else "error"
        if self.state != "leased" or sender != self.holder:
            return "revoked"
        ids = [token for token, _, _ in self.tokens]
        expected_hash = segment_hash.extend(0, np.array(ids, np.int32))
        if segment.token_offset != len(ids) or segment.prefix_hash != expected_hash:
            return "error"
        prompt = self.prompt if segment.prompt_ids is None else segment.prompt_ids.tolist()
        if prompt is None or (self.prompt is not None and prompt != self.prompt):
            return "error"
        versions = [v for span in segment.spans for v in [span.policy_version] * span.num_tokens]
        logprobs = segment.behavior_logprobs.tolist()
        new = list(zip(segment.token_ids.tolist(), logprobs, versions, strict=True))
        if segment.status is SegmentStatus.FINISHED and not self.tokens + new:
            return "error"
        self.tokens, self.prompt = self.tokens + new, prompt
        self.owners += [(self.epoch, sender)] * len(new)
        self.of_this_lease.append(segment)
        if segment.status is SegmentStatus.SUSPENDED:
            self.release()
        elif segment.status is SegmentStatus.FINISHED:
            self.state = "finished"
        return "accepted"

    def score(self, epoch: int, rewards: dict[str, float], error: str) -> str:
        if epoch != self.epoch or self.state in ("expired", "suspended"):
            return "revoked"
        if self.state in ("scored", "failed"):
            return "duplicate" if (rewards, error) == self.rewards else "error"
        if self.state != "finished":
            return "error"
        self.state, self.holder = "failed" if error else "scored", None
        self.rewards = rewards, error
        return "accepted"

    def release(self) -> None:
        self.holder = None
        if self.state == "leased":
            self.state = "suspended"

    @property
    def can_lease(self) -> bool:
        unscored = self.state == "finished" and self.holder is None
        return self.state in ("pending", "suspended") or unscored


def same(left: Segment, right: Segment) -> bool:
    """Field by field, without a checksum."""

    def plain(value: Any) -> Any:
        return value.tolist() if isinstance(value, np.ndarray) else value

    return all(plain(getattr(left, n)) == plain(getattr(right, n)) for n in Segment.__slots__)


def altered(segment: Segment, rng: np.random.Generator) -> Segment:
    """The same key with other bytes."""
    tokens, count = segment.token_ids, len(segment.token_ids)
    choices: list[dict[str, Any]] = [
        {"prefill_version": segment.prefill_version + 1},
        {"swaps": (*segment.swaps, segment.token_offset)},
    ]
    if count:
        other = tokens.copy()
        other[int(rng.integers(count))] += 1
        shorter = (VersionSpan(0, count - 1),) if count > 1 else ()
        choices += [
            {"token_ids": other},
            {"behavior_logprobs": segment.behavior_logprobs - np.float32(0.5)},
            {"spans": (VersionSpan(segment.spans[0].policy_version + 1, count),)},
            {"mask": np.zeros(count, np.uint8)},
            {
                "token_ids": tokens[:-1],
                "behavior_logprobs": segment.behavior_logprobs[:-1],
                "spans": shorter,
            },
        ]
    return replace(segment, **choices[int(rng.integers(len(choices)))])


class Lockstep:
    """Applies random operations to both."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.rollout = Rollout(rollout_id=0, group_id=0, member=0, prompt=make_prompt(0))
        self.twin = Twin()
        self.sent: list[Segment] = []
        self.version = 0
        self.seen: set[str] = set()

    def step(self) -> None:
        self.version += int(self.rng.integers(2))
        kind = self.rng.choice(["lease", "next", "next", "next", "old", "twist", "score", "end"])
        getattr(self, f"_{kind}")()
        self._compare()

    def _lease(self) -> None:
        assert self.rollout.can_lease == self.twin.can_lease
        if not self.twin.can_lease:
            return
        holder = [b"a", b"b"][int(self.rng.integers(2))]
        lease = lease_to(self.rollout, holder, self.version)
        self.twin.lease(holder)
        assert (lease.lease_epoch, lease.prefix_ids.tolist()) == (
            self.twin.epoch,
            [token for token, _, _ in self.twin.tokens],
        )
        assert (lease.kind is LeaseKind.SCORE) == (self.twin.state == "finished")

    def _make(self) -> Segment:
        size = int(self.rng.integers(0, 4))
        ending = int(self.rng.integers(6))
        finish, suspend = ending == 0, ending == 1 or size == 0
        return make_segment(
            self.rng.integers(0, 50, size).tolist(),
            prefix=[token for token, _, _ in self.twin.tokens],
            versions=sorted(self.rng.integers(0, self.version + 1, size).tolist()),
            finish=FinishReason.STOP if finish else None,
            suspend=suspend and not finish,
            prompt=None if self.twin.of_this_lease else (1, 2),
            lease_epoch=max(1, self.twin.epoch),
        )

    def _next(self) -> None:
        self._send(self._make(), self.twin.holder or b"a")

    def _old(self) -> None:
        if not self.sent:
            return
        segment = self.sent[int(self.rng.integers(len(self.sent)))]
        if self.rng.random() < 0.5:
            segment = altered(segment, self.rng)
        self._send(segment, b"a" if self.rng.random() < 0.5 else b"b")

    def _twist(self) -> None:
        """The next segment, but for one thing."""
        segment = self._make()
        kind = int(self.rng.integers(6))
        if kind == 0:
            segment = replace(segment, token_offset=segment.token_offset + 1)
        elif kind == 1:
            segment = replace(segment, prefix_hash=segment.prefix_hash ^ 1)
        elif kind == 2:
            segment = replace(segment, lease_epoch=segment.lease_epoch + 1)
        elif kind == 3:
            segment = replace(segment, lease_epoch=segment.lease_epoch - 1)
        elif kind == 4:
            segment = replace(segment, prompt_ids=np.array([7], np.int32))
        self._send(segment, b"stranger" if kind == 5 else self.twin.holder or b"a")

    def _send(self, segment: Segment, sender: bytes) -> None:
        expected = self.twin.accept(segment, sender)
        self.seen.add(expected)
        if expected == "error":
            with pytest.raises(ProtocolError):
                self.rollout.accept(segment, sender, self.version)
            return
        assert self.rollout.accept(segment, sender, self.version) == expected
        if expected == "accepted":
            self.sent.append(segment)

    def _score(self) -> None:
        epoch = self.twin.epoch - int(self.rng.random() < 0.2)
        error = "ValueError: no" if self.rng.random() < 0.3 else ""
        rewards = {} if error else {**REWARDS, "task": float(self.rng.random() < 0.8)}
        expected = self.twin.score(epoch, rewards, error)
        self.seen.add(f"score {expected}")
        if expected == "error":
            with pytest.raises(ProtocolError):
                self.rollout.score(epoch, rewards, "", error)
        else:
            assert self.rollout.score(epoch, rewards, "", error) == expected

    def _end(self) -> None:
        """Its holder dies; rarely, its group closes without it."""
        if self.twin.state not in ("scored", "failed") and self.rng.random() < 0.05:
            self.rollout.expire()
            self.twin.state, self.twin.holder = "expired", None
        elif self.rng.random() < 0.5:
            self.rollout.release(self.version)
            self.twin.release()

    def _compare(self) -> None:
        valid, problem = self.rollout.check_valid()
        assert valid, problem
        rollout, twin = self.rollout, self.twin
        arrays = (rollout.token_ids, rollout.logprobs, rollout.versions)
        both = list(zip(*(array.tolist() for array in arrays), strict=True))
        assert both == twin.tokens
        changes = [i for i, owner in enumerate(twin.owners) if owner not in twin.owners[:i]]
        assert rollout.lease_starts == [(i, twin.owners[i][1]) for i in changes]
        assert (rollout.state, rollout.holder) == (twin.state, twin.holder)
        assert (rollout.lease_epoch, rollout.num_tokens) == (twin.epoch, len(twin.tokens))
        if twin.tokens:
            assert rollout.oldest_version == min(version for _, _, version in twin.tokens)


def test_random_histories_match_the_twin() -> None:
    seen: set[str] = set()
    for seed in range(150):
        pair = Lockstep(seed)
        for _ in range(60):
            pair.step()
        seen |= pair.seen
    verdicts = {"accepted", "duplicate", "revoked", "error"}
    assert seen == verdicts | {f"score {verdict}" for verdict in verdicts}


# -- the cases by name ---------------------------------------------------------------------


@pytest.fixture
def rollout() -> Rollout:
    """Leased to `a`, three tokens from two versions."""
    rollout = Rollout(rollout_id=0, group_id=0, member=0, prompt=make_prompt(0))
    lease_to(rollout, b"a", version=3)
    assert rollout.accept(FIRST, b"a", 3) is Verdict.ACCEPTED
    return rollout


FIRST = make_segment([5, 6, 7], versions=[3, 3, 4])


def test_versions_stay_with_their_tokens(rollout: Rollout) -> None:
    second = make_segment([8, 9], prefix=[5, 6, 7], versions=[4, 5], prompt=None)
    assert rollout.accept(second, b"a", 5) is Verdict.ACCEPTED
    assert rollout.token_ids.tolist() == [5, 6, 7, 8, 9]
    assert rollout.versions.tolist() == [3, 3, 4, 4, 5]
    assert rollout.logprobs.tolist() == logprobs_of(np.array([5, 6, 7, 8, 9])).tolist()
    assert rollout.oldest_version == 3


def test_what_came_in_a_frame_is_copied_out_of_it(rollout: Rollout) -> None:
    tokens = np.array([8], np.int32)
    segment = replace(make_segment([8], prefix=[5, 6, 7]), token_ids=tokens)
    rollout.accept(segment, b"a", 3)
    tokens[0] = 99
    assert rollout.token_ids.tolist() == [5, 6, 7, 8]


def test_same_key_with_other_bytes_names_both(rollout: Rollout) -> None:
    other = make_segment([5, 6], versions=[3, 3])
    with pytest.raises(ProtocolError) as caught:
        rollout.accept(other, b"a", 3)
    text = str(caught.value)
    assert "rollout 0" in text and "offset 0" in text
    assert "3 tokens" in text and "2 tokens" in text
    assert rollout.token_ids.tolist() == [5, 6, 7]


@pytest.mark.parametrize(
    "change",
    [
        {"spans": (VersionSpan(4, 3),)},
        {"mask": np.array([1, 1, 0], np.uint8)},
        {"behavior_logprobs": np.zeros(3, np.float32)},
        {"status": SegmentStatus.SUSPENDED},
        {"swaps": (1,)},
    ],
)
def test_every_field_is_part_of_the_bytes(rollout: Rollout, change: dict[str, Any]) -> None:
    assert rollout.accept(FIRST, b"a", 3) is Verdict.DUPLICATE
    with pytest.raises(ProtocolError, match="checksum"):
        rollout.accept(replace(FIRST, **change), b"a", 3)


def test_gaps_and_foreign_prefixes(rollout: Rollout) -> None:
    with pytest.raises(ProtocolError, match="has 3 tokens, got a segment at offset 4"):
        rollout.accept(make_segment([9], prefix=[5, 6, 7, 8]), b"a", 3)
    with pytest.raises(ProtocolError, match=r"has prefix hash .* got a segment upon"):
        rollout.accept(make_segment([9], prefix=[5, 6, 8]), b"a", 3)
    with pytest.raises(ProtocolError, match="from another prompt"):
        rollout.accept(make_segment([9], prefix=[5, 6, 7], prompt=(3,)), b"a", 3)


def test_first_segment_brings_the_prompt() -> None:
    rollout = Rollout(rollout_id=0, group_id=0, member=0, prompt=make_prompt(0))
    lease_to(rollout)
    with pytest.raises(ProtocolError, match="no prompt tokens"):
        rollout.accept(make_segment([1], prompt=None), b"a", 0)
    with pytest.raises(ProtocolError, match="finished without a token"):
        rollout.accept(make_segment([], finish=FinishReason.STOP), b"a", 0)


def test_resumed_elsewhere_only_the_new_holder_goes_on(rollout: Rollout) -> None:
    end = make_segment([8], prefix=[5, 6, 7], suspend=True, prompt=None)
    assert rollout.accept(end, b"a", 4) is Verdict.ACCEPTED
    assert (rollout.state, rollout.suspended_version) == (RolloutState.SUSPENDED, 4)
    assert rollout.accept(end, b"a", 4) is Verdict.DUPLICATE  # its acknowledgement was lost
    lease = lease_to(rollout, b"b", version=5)
    assert lease.prefix_ids.tolist() == [5, 6, 7, 8] and lease.lease_epoch == 2
    assert lease.prefix_hash == segment_hash.extend(0, np.array([5, 6, 7, 8], np.int32))
    stale = make_segment([9], prefix=[5, 6, 7, 8])
    assert rollout.accept(stale, b"a", 5) is Verdict.REVOKED
    assert rollout.accept(end, b"a", 5) is Verdict.REVOKED
    current = replace(stale, lease_epoch=2)
    assert rollout.accept(current, b"a", 5) is Verdict.REVOKED
    assert rollout.accept(current, b"b", 5) is Verdict.ACCEPTED
    assert rollout.token_ids.tolist() == [5, 6, 7, 8, 9]


def test_score_after_the_lease_was_taken_back_is_no_error(rollout: Rollout) -> None:
    """An actor that was silent too long sends the end of its rollout and the score in one go."""
    rollout.release(4)
    end = make_segment([8], prefix=[5, 6, 7], finish=FinishReason.STOP, prompt=None)
    assert rollout.accept(end, b"a", 4) is Verdict.REVOKED
    assert rollout.score(1, REWARDS, "") is Verdict.REVOKED


def test_finished_by_a_dead_actor_is_leased_for_scoring_only(rollout: Rollout) -> None:
    end = make_segment([8], prefix=[5, 6, 7], finish=FinishReason.LENGTH, prompt=None)
    rollout.accept(end, b"a", 3)
    assert not rollout.can_lease and rollout.truncated
    rollout.release(4)
    assert rollout.can_lease
    lease = lease_to(rollout, b"b", version=5)
    assert (lease.kind, lease.finish_reason) == (LeaseKind.SCORE, FinishReason.LENGTH)
    assert lease.prefix_ids.tolist() == [5, 6, 7, 8]
    assert rollout.score(1, REWARDS, "late") is Verdict.REVOKED
    assert rollout.score(2, REWARDS, "text") is Verdict.ACCEPTED
    assert rollout.score(2, REWARDS, "text") is Verdict.DUPLICATE
    with pytest.raises(ProtocolError, match=r"was scored .*1\.1.*, got .*7"):
        rollout.score(2, {**REWARDS, "total": 7.0}, "text")


def test_oldest_version_before_the_first_token_is_that_of_the_lease() -> None:
    rollout = Rollout(rollout_id=0, group_id=0, member=0, prompt=make_prompt(0))
    lease_to(rollout, version=6)
    assert rollout.oldest_version == 6
