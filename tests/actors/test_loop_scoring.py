"""The loop and scores that take their time: it neither blocks on them, nor spins, nor sleeps past
their end."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from actors import loop as loop_module
from actors.client import Inbox
from actors.loop import ActorLoop
from actors.scoring import Scorer
from actors.stats import ActorStats
from async_r1.channels import Dealer
from async_r1.config import Config
from async_r1.ports import free_port
from async_r1.schema import build
from async_r1.types import FinishReason, Lease, LeaseKind, Score
from tests.actors.test_scoring import PROMPT_ID, STOP, make_scorer


class IdleEngine:
    """Nothing to sample."""

    num_in_flight, usable, policy_version = 0, True, 0


class Peer:
    """A buffer, and weights, that say nothing but what they are told to."""

    blocked = False

    def __init__(self) -> None:
        self.dealer = Dealer(f"tcp://127.0.0.1:{free_port('127.0.0.1')}", "actor_000")
        self.leases: list[Lease] = []
        self.scores: list[Score] = []
        self.sent_at: list[float] = []
        self.free: list[int] = []

    def receive(self, now: float) -> Inbox:
        leases, self.leases = self.leases, []
        return Inbox(leases, [])

    def heartbeat(self, now: float, every_s: float) -> None: ...

    def poll(self) -> bool:
        return False

    def request_leases(self, free_slots: int) -> None:
        self.free.append(free_slots)

    def send_score(self, score: Score) -> None:
        self.scores.append(score)
        self.sent_at.append(time.monotonic())


def score_lease(rollout_id: int, text: str) -> Lease:
    return Lease(
        rollout_id=rollout_id,
        lease_epoch=3,
        kind=LeaseKind.SCORE,
        group_id=0,
        member=0,
        prompt_id=PROMPT_ID,
        level=1,
        seed=0,
        token_budget=0,
        max_new_tokens=100,
        temperature=1.0,
        finish_reason=FinishReason.STOP,
        prefix_ids=np.asarray([*map(ord, text), STOP], np.int32),
    )


@pytest.fixture
def peers() -> Iterator[list[Peer]]:
    both = [Peer(), Peer()]
    yield both
    for peer in both:
        peer.dealer.close()


@pytest.fixture
def scorer() -> Iterator[Scorer]:
    scorer = make_scorer("behave", timeout_s=1.0)
    yield scorer
    scorer.close()


def make_loop(peers: list[Peer], scorer: Scorer, mode: str = "async") -> ActorLoop:
    config = replace(build(Config, {"actors": {"max_concurrent": 8, "prefetch": 3}}), mode=mode)
    parts: list[Any] = [IdleEngine(), *peers, scorer, ActorStats(None)]  # type: ignore[arg-type]
    return ActorLoop(config, *parts)


@pytest.mark.slow
def test_the_loop_wakes_when_a_score_is_done_or_due(
    peers: list[Peer], scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "IDLE_POLL_S", 6.0)
    loop, buffer = make_loop(peers, scorer), peers[0]
    buffer.leases = [score_lease(1, "fine")]
    rounds = 0
    while len(buffer.scores) < 1:  # the first one starts a process
        loop.iterate()
        rounds += 1
    buffer.leases = [score_lease(2, "slow"), score_lease(3, "hang"), score_lease(4, "fine")]
    started = time.monotonic()
    while len(buffer.scores) < 4:
        loop.iterate()
        rounds += 1
    assert buffer.sent_at[1] - started < 4.0  # 0.3 s
    assert buffer.sent_at[2] - buffer.sent_at[1] < 4.0  # the time-out of 1 s
    assert buffer.sent_at[3] - buffer.sent_at[2] < 5.0  # another process starts
    assert rounds < 25
    assert [score.rollout_id for score in buffer.scores] == [1, 2, 3, 4]
    assert {score.lease_epoch for score in buffer.scores} == {3}
    errors = [score.error for score in buffer.scores]
    assert errors == ["", "", "took more than 1 s", ""]
    assert set(buffer.free) == {8 + 3}  # what is only being scored takes no slot


def test_in_sync_mode_what_is_being_scored_takes_a_slot(peers: list[Peer]) -> None:
    """Else the buffer would take the actor for idle, and begin the next round early."""
    scorer = make_scorer("behave", mode="sync")
    try:
        loop, buffer = make_loop(peers, scorer, "sync"), peers[0]
        buffer.leases = [score_lease(i, "slow") for i in range(3)]
        while len(buffer.scores) < 3:
            before = len(buffer.scores)
            loop.iterate()
            assert buffer.free[-1] <= 8 - (3 - len(buffer.scores)) or before != len(buffer.scores)
        assert buffer.free[0] == 5 and [score.rollout_id for score in buffer.scores] == [0, 1, 2]
    finally:
        scorer.close()
