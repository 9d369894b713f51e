"""The learner's loop: wait -> train -> publish -> step_done -> metrics -> checkpoint.

buffer --batch--> rank 0 --raw bytes--> every rank: train_step (gradients over DeepSpeed)
   ^                |
   +--step_done-----+--version--> WeightPublisher --> every actor's engine

waits for                          unblocked by
batch                              the buffer, or its deadline buffer.wait_timeout_s
publish                            every actor, or the deadline weights.timeout_s
finished                           the last eval, or its deadline eval.timeout_s
rank k > 0: the batch's bytes      rank 0; the deadline of the process group
"""

import time
from typing import Any

from async_r1 import messages, wire
from async_r1.errors import TrainingError
from async_r1.model_files import check_named_model
from async_r1.role import Role
from async_r1.types import Batch
from learner import guards
from learner.backend import Backend
from learner.checkpoint import save_checkpoint
from learner.draw_weights import weight_metrics
from learner.head import SLACK_S, Head, MakePublisher
from learner.model import load_policy, source_dir
from learner.objectives import make_objective
from learner.publisher import WeightPublisher
from learner.ranks import Ranks, join
from learner.reference import Reference
from learner.rows import batch_metrics, peak_memory_gib
from learner.trainer import Trainer


def run(role: Role, make_publisher: MakePublisher = WeightPublisher) -> None:
    """Train to the end of the run.

    Raises:
        AsyncR1Error: the run cannot go on; the message says what failed, and names the peer.
    """
    ranks = join(role.index, role.config.learner.ranks, _collective_timeout_s(role))
    try:
        learner = Learner(role, ranks)
        head = Head(role, ranks.device, make_publisher) if ranks.rank == 0 else None
        try:
            learner.run(head)
        finally:
            if head is not None:
                head.close()
    finally:
        ranks.close()
    role.status("done")


class Learner:
    """The policy and its training, the same on every rank."""

    def __init__(self, role: Role, ranks: Ranks) -> None:
        config = role.config
        self.role = role
        self.ranks = ranks
        self.version = 0
        self.trained_tokens = 0
        temperature = config.actors.temperature
        role.status("starting", f"loading {config.model.path}")
        check_named_model(config.model.path, config.task)
        self._source = source_dir(config.model.path)
        policy = load_policy(config.model, config.learner, temperature=temperature)
        self._reference: Reference | None = None
        if make_objective(config.objective).needs_reference:
            frozen = load_policy(config.model, config.learner, temperature=temperature)
            every = config.objective.reference_refresh
            self._reference = Reference(frozen, refresh_every=every, device=ranks.device)
        role.status("starting", "DeepSpeed")
        self._backend = Backend(policy, config.learner, ranks)
        self._trainer = Trainer(config, self._backend, self._reference)

    def run(self, head: Head | None) -> None:
        config = self.role.config.learner
        for step in range(1, config.num_updates + 1):
            row = self._step(step, head)
            if head is not None:
                head.rows.write(row)
            if self._publishes(step) and config.checkpoint_every:
                if self.version % config.checkpoint_every == 0:
                    self._checkpoint()
        self._checkpoint()  # first: a last eval that fails must not cost the policy
        if head is not None:
            head.finish(self.version)

    def _step(self, step: int, head: Head | None) -> dict[str, Any]:
        config = self.role.config
        consumed = self.version
        started = time.monotonic()
        batch = self._receive(head)
        waited = time.monotonic()
        self.role.status("running", f"step {step} of {config.learner.num_updates}")
        published: dict[str, float] = {}
        try:
            update = self._trainer.update(batch, step)
            trained = time.monotonic()
            if self._publishes(step):
                published = self._publish(head)
        except TrainingError as error:
            raise self._failed(batch, step, error) from error
        trained_tokens = int(batch.mask.sum())
        self.trained_tokens += trained_tokens
        if head is not None:
            found = update.surprise
            head.client.step_done(
                batch_id=batch.batch_id,
                step=step,
                policy_version=self.version,
                trained_tokens=trained_tokens,
                arrays={"item_ids": found.item_ids, "surprise": found.values} if found else None,
            )
        step_s = time.monotonic() - started
        return {
            "step": step,
            "policy_version": consumed,
            "tokens": self.trained_tokens,
            **batch_metrics(batch, max(config.staleness.eta, config.staleness.force)),
            **weight_metrics(batch),
            **update.metrics,
            "time/publish_s": 0.0,
            **published,
            "time/step_s": step_s,
            "time/wait_batch_s": waited - started,
            "time/train_s": trained - waited,
            "learner/idle_frac": (waited - started) / step_s,
            "perf/tokens_per_s": trained_tokens / step_s,
            "perf/peak_memory_gib": peak_memory_gib(self.ranks.device),
        }

    def _receive(self, head: Head | None) -> Batch:
        frames = None if head is None else wire.encode(head.request_batch(self.version))
        return messages.read_batch(wire.decode(self.ranks.broadcast_frames(frames)))

    def _publishes(self, step: int) -> bool:
        """Whether a version is published after this step; the last one always is."""
        config = self.role.config.learner
        return step % config.updates_per_publish == 0 or step == config.num_updates

    def _publish(self, head: Head | None) -> dict[str, float]:
        self.version += 1
        metrics: dict[str, float] = {}
        weights = guards.finite_weights(self._backend.full_weights())
        if head is not None:
            metrics = head.publish(self.version, weights)
        for _ in weights:  # gathering is a collective: every rank goes through all of them
            pass
        if self._reference is not None and self._reference.due(self.version):
            self._reference.load(self._backend.full_weights())
        return metrics

    def _checkpoint(self) -> None:
        directory = self.role.run_dir.checkpoint(self.version)
        weights = self._backend.full_weights()
        if self.ranks.rank == 0:
            save_checkpoint(directory, weights, self._source, version=self.version)
        for _ in weights:
            pass
        self.ranks.barrier()

    def _failed(self, batch: Batch, step: int, error: TrainingError) -> TrainingError:
        where = f"step {step}, version {self.version}, batch {batch.batch_id}"
        if self.ranks.rank != 0:
            return TrainingError(f"{error} at {where}")
        path = guards.save_failed_batch(
            self.role.run_dir, batch, step=step, policy_version=self.version, error=str(error)
        )
        return TrainingError(f"{error} at {where}; the batch is in {path}")


def _collective_timeout_s(role: Role) -> float:
    """Ranks wait for each other at most as long as rank 0 may wait for somebody else."""
    config = role.config
    waits = (
        config.run.start_timeout_s,
        config.buffer.wait_timeout_s,
        2 * config.eval.timeout_s,
        config.weights.timeout_s,
    )
    return max(waits) + 2 * SLACK_S + config.run.peer_timeout_s
