"""The actor's loop: leases in; step the engine; segments and scores out; weights between steps.

    learner --weights--> engine --chunks--> segmenters --segments--> buffer
    buffer --leases----> engine     finished rollouts --> scorer --scores--> buffer

| waits for | unblocked by |
|---|---|
| leases | any event at the buffer that admits a group or makes a rollout eligible |
| credit | the buffer's acknowledgements |
| scores, of the processes that make them | their end, or `reward.timeout_s` |
| a full version, after a broken transfer | the learner's next publication |
"""

import time
from dataclasses import dataclass

import numpy as np

from actors.client import BufferClient, Inbox
from actors.engine import SamplingEngine, SamplingRequest, TokenChunk
from actors.prompt_check import room_for
from actors.scoring import Scorer
from actors.segmenter import Segmenter
from actors.stats import ActorStats
from actors.weights import WeightReceiver
from async_r1.channels import wait_any
from async_r1.config import Config
from async_r1.types import EVAL_GROUP, FinishReason, Lease, LeaseKind, Score, SegmentStatus

HEARTBEAT_S = 1.0
IDLE_POLL_S = 0.2


@dataclass(slots=True)
class _Rollout:
    lease: Lease
    segmenter: Segmenter
    token_ids: list[int]  # of the whole rollout, up to the last segment


class ActorLoop:
    """State of one actor; `run` returns when the buffer says stop."""

    def __init__(
        self,
        config: Config,
        engine: SamplingEngine,
        client: BufferClient,
        weights: WeightReceiver,
        scorer: Scorer,
        stats: ActorStats,
    ) -> None:
        self._config = config
        self._engine = engine
        self._client = client
        self._weights = weights
        self._scorer = scorer
        self._stats = stats
        self._rollouts: dict[int, _Rollout] = {}
        self._outdated = False
        self._stop = False

    def run(self, known_version: int) -> None:
        """Sample until told to stop; `known_version` is what the buffer said at the welcome."""
        self._outdated = known_version > self._engine.policy_version
        self._weights.join()
        while not self._stop:
            self.iterate()
        for rollout_id in list(self._rollouts):
            self._forget(rollout_id)

    def iterate(self) -> None:
        """One round: weights, messages, leases, one engine step."""
        if self._weights.poll():
            self._outdated = False
            self._stats.version_loaded(self._engine, self._weights, self._client, self._scorer)
        now = time.monotonic()
        self._take(self._client.receive(now))
        self._client.heartbeat(now, HEARTBEAT_S)
        self._send_scores()
        self._client.request_leases(self._num_free)
        if self._can_step:
            started = time.monotonic()
            chunks = self._engine.step()
            self._stats.stepped(time.monotonic() - started, chunks)
            for chunk in chunks:
                self._advance(chunk)
        else:
            started = time.monotonic()
            self._wait()
            self._stats.waited(time.monotonic() - started)

    @property
    def _can_step(self) -> bool:
        return (
            self._engine.num_in_flight > 0
            and self._engine.usable
            and not self._outdated
            and not self._client.blocked
        )

    @property
    def _num_free(self) -> int:
        """Leases that this actor can take. In sync mode what is being scored counts as in flight: a
        version starts when all of it is done."""
        actors, in_flight = self._config.actors, len(self._rollouts)
        if self._config.mode == "sync":
            return actors.max_concurrent - in_flight - self._scorer.num_pending
        return actors.max_concurrent + actors.prefetch - in_flight

    def _wait(self) -> None:
        """Sleep until a socket has something; short enough for heartbeats and deadlines."""
        dealers = [self._client.dealer, self._weights.dealer]
        wait_any(dealers, min(IDLE_POLL_S, self._scorer.due_s()), self._scorer.fds)

    def _take(self, inbox: Inbox) -> None:
        for rollout_id, epoch in inbox.revoked:
            rollout = self._rollouts.get(rollout_id)
            if rollout is not None and rollout.lease.lease_epoch == epoch:
                self._forget(rollout_id)
        for lease in inbox.leases:
            if lease.kind is LeaseKind.SCORE:
                self._score(lease, lease.prefix_ids.tolist(), lease.finish_reason)
            else:
                self._begin(lease)
        self._stop = inbox.stop

    def _begin(self, lease: Lease) -> None:
        prompt_ids = self._scorer.prompt_token_ids(lease.prompt_id, self._eval_prefix(lease))
        room = room_for(self._config, lease.prompt_id, len(prompt_ids))
        limit = min(lease.max_new_tokens, room)
        left = limit - len(lease.prefix_ids)
        if lease.token_budget:
            left = min(left, lease.token_budget)
        self._forget(lease.rollout_id)
        self._rollouts[lease.rollout_id] = _Rollout(
            lease,
            Segmenter(lease, prompt_ids, self._config.actors.segment_tokens, limit),
            lease.prefix_ids.tolist(),
        )
        self._engine.submit(
            SamplingRequest(
                key=lease.rollout_id,
                token_ids=np.concatenate([prompt_ids, lease.prefix_ids]),
                max_new_tokens=left,
                temperature=lease.temperature,
                seed=lease.seed if self._config.mode == "sync" else None,
            )
        )

    def _advance(self, chunk: TokenChunk) -> None:
        rollout = self._rollouts[chunk.key]
        for segment in rollout.segmenter.add(chunk):
            rollout.token_ids.extend(segment.token_ids.tolist())
            self._client.send_segment(segment)
            if segment.status is SegmentStatus.FINISHED:
                self._score(rollout.lease, rollout.token_ids, segment.finish_reason)
            self._stats.suspended += segment.status is SegmentStatus.SUSPENDED
        if chunk.finish_reason is not None:
            del self._rollouts[chunk.key]

    def _score(self, lease: Lease, token_ids: list[int], reason: FinishReason | None) -> None:
        assert reason is not None
        started = time.monotonic()
        self._scorer.submit(
            (lease.rollout_id, lease.lease_epoch),
            prompt_id=lease.prompt_id,
            token_ids=np.asarray(token_ids, dtype=np.int32),
            finish_reason=reason,
            prefix=self._eval_prefix(lease),
        )
        self._stats.scored(time.monotonic() - started)
        self._send_scores()

    def _send_scores(self) -> None:
        for scored in self._scorer.finished():
            rollout_id, lease_epoch = scored.key
            self._client.send_score(
                Score(
                    rollout_id=rollout_id,
                    lease_epoch=lease_epoch,
                    rewards=scored.rewards,
                    text=scored.text,
                    error=scored.error,
                )
            )

    def _eval_prefix(self, lease: Lease) -> str:
        """What evaluation puts after the prompt, also when the lease is for scoring only."""
        return self._config.eval.prefix if lease.group_id == EVAL_GROUP else ""

    def _forget(self, rollout_id: int) -> None:
        if self._rollouts.pop(rollout_id, None) is not None:
            self._engine.abort(rollout_id)
