"""What one actor reports: a row per version that it loaded, and one at the end."""

import time

from actors.client import BufferClient
from actors.engine import SamplingEngine, TokenChunk
from actors.scoring import Scorer
from actors.weights import WeightReceiver
from async_r1.metrics import MetricsWriter


class ActorStats:
    """Counts tokens, and where the time goes: idle is waiting for somebody, or loading weights."""

    def __init__(self, writer: MetricsWriter) -> None:
        self._writer = writer
        self._since = time.monotonic()
        self._engine_s = 0.0
        self._waiting_s = 0.0
        self._scoring_s = 0.0
        self._tokens = 0
        self._num_rows = 0
        self._num_steps = 0
        self._in_flight = 0
        self.total_tokens = 0
        self.suspended = 0

    def stepped(self, seconds: float, chunks: list[TokenChunk]) -> None:
        """The engine took a step of this length."""
        count = sum(len(chunk.token_ids) for chunk in chunks)
        self._engine_s += seconds
        self._tokens += count
        self.total_tokens += count
        self._num_steps += 1
        self._in_flight += len(chunks)

    def waited(self, seconds: float) -> None:
        """Nothing could be sampled for this long."""
        self._waiting_s += seconds

    def scored(self, seconds: float) -> None:
        """A finished rollout was scored in this long."""
        self._scoring_s += seconds

    def version_loaded(
        self,
        engine: SamplingEngine,
        weights: WeightReceiver,
        client: BufferClient,
        scorer: Scorer,
    ) -> None:
        """Write the row of the time since the last version."""
        now = time.monotonic()
        elapsed = max(now - self._since, 1e-9)
        update_s = weights.take_update_s()
        self._num_rows += 1
        self._writer.write(
            {
                "step": self._num_rows,
                "policy_version": engine.policy_version,
                "perf/tokens_per_s": self._tokens / elapsed,
                "actor/idle_frac": min(1.0, (self._waiting_s + update_s) / elapsed),
                "actor/engine_frac": self._engine_s / elapsed,
                "actor/in_flight": engine.num_in_flight,
                "actor/batch_size": self._in_flight / max(1, self._num_steps),
                "tokens/sampled": self.total_tokens,
                "time/update_s": update_s,
                "time/engine_s": self._engine_s,
                "time/score_s": self._scoring_s,
                "time/idle_s": self._waiting_s,
                "segments/sent": client.num_segments,
                "leases/suspended": self.suspended,
                "scores/pending": scorer.num_pending,
                "scores/processes_replaced": scorer.num_replaced,
            }
        )
        self._since, self._engine_s, self._waiting_s, self._scoring_s = now, 0.0, 0.0, 0.0
        self._tokens = 0
        self._num_steps, self._in_flight = 0, 0
