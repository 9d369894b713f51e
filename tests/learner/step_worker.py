"""One learner rank: two optimizer steps under each ZeRO stage, then one that must not happen.

    python -m tests.learner.step_worker MODEL_DIR OUT_DIR DTYPE STAGES

Rank 0 writes what `test_backend.py` compares with plain torch.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from async_r1 import messages, schema, wire
from async_r1.config import Config
from async_r1.errors import TrainingError
from async_r1.types import Batch
from learner.quiet import quiet_libraries
from tests.learner.batches import random_batch

NUM_STEPS = 2


def config(model_dir: str, stage: int, dtype: str = "float32") -> Config:
    """Micro-batches so small that ranks have different numbers of them."""
    return schema.build(
        Config,
        {
            "model": {"path": model_dir, "dtype": dtype},
            "actors": {
                "temperature": 0.3
            },  # so that the gradients are larger than DeepSpeed clips to
            "learner": {
                "ranks": int(os.environ.get("WORLD_SIZE", "1")),
                "lr": 1e-3,
                "warmup_updates": 2,  # every step has another rate than the optimizer began with
                "weight_decay": 0.1,
                "grad_clip": 0.05,
                "zero_stage": stage,
                "micro_batch_tokens": 70,
                "logprob_chunk_tokens": 16,
                # With and without recomputation; stage 3 partitions the smallest parameter, too.
                "gradient_checkpointing": stage >= 2,
                "deepspeed": {"zero_optimization": {"stage3_param_persistence_threshold": 0}},
            },
            "objective": {"drift": 0.01},
        },
    )


def main() -> None:
    quiet_libraries()
    import torch

    torch.set_num_threads(1)
    from learner.backend import Backend
    from learner.model import load_policy
    from learner.ranks import join
    from learner.trainer import Trainer

    model_dir, out, dtype, stages = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    ranks = join(rank, size, 60.0)
    facts: dict[str, object] = {}
    for stage in map(int, stages.split(",")):
        cfg = config(model_dir, stage, dtype)
        policy = load_policy(cfg.model, cfg.learner, temperature=cfg.actors.temperature)
        backend = Backend(policy, cfg.learner, ranks)
        trainer = Trainer(cfg, backend, None)
        rows = []
        for step in range(1, NUM_STEPS + 1):
            frames = wire.encode(messages.write_batch(batch_of(step))) if rank == 0 else None
            batch = messages.read_batch(wire.decode(ranks.broadcast_frames(frames)))
            rows.append(trainer.update(batch, step).metrics)
        weights = copies(backend)
        facts[str(stage)] = {
            "rows": rows,
            "refused_loss": refuses_nan_loss(trainer),
            "refused_gradient": refuses_nan_gradient(backend),
        }
        after = copies(backend)
        assert all((weights[name] == after[name]).all() for name in weights), "NaN got through"
        if rank == 0:
            np.savez(out / f"stage_{stage}.npz", **weights)
    (out / f"rank_{rank}.json").write_text(json.dumps(facts))
    ranks.close()


def copies(backend: Any) -> dict[str, Any]:
    return {name: weight.float().numpy().copy() for name, weight in backend.full_weights()}


def batch_of(step: int) -> Batch:
    """Nine rollouts: two ranks have different numbers of them, and of micro-batches."""
    return random_batch(step + 2, num_groups=3, group_size=3, lens=(2, 40))


def refuses_nan_loss(trainer: Any) -> str:
    """One token of the shortest rollout, so of one rank, has no behaviour log-prob."""
    good = batch_of(1)
    starts = np.concatenate([[0], np.cumsum(good.completion_lens)])
    token = starts[int(np.argmin(good.prompt_lens + good.completion_lens))]
    logprobs, mask = good.behavior_logprobs.copy(), good.mask.copy()
    logprobs[token], mask[token] = np.nan, 1
    bad = replace(good, behavior_logprobs=logprobs, mask=mask)
    return error_of(lambda: trainer.update(bad, NUM_STEPS + 1))


def refuses_nan_gradient(backend: Any) -> str:
    """The loss of the last rank is zero, and its gradient is not a number."""
    from learner.batching import collate
    from learner.statistics import Statistics

    def loss_fn(_batch: Any, logprobs: Any, _entropies: Any) -> Any:
        if backend.ranks.rank + 1 < backend.ranks.size:
            return logprobs.sum(), Statistics()
        return (logprobs * 0.0).abs().sqrt().sum(), Statistics()

    batch = batch_of(1)
    return error_of(lambda: backend.train_step([collate(batch, {}, [0])], loss_fn, lambda _: 1e-3))


def error_of(call: Callable[[], object]) -> str:
    try:
        call()
    except TrainingError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main()
    os._exit(0)  # as the learner ends: past the threads of its process group
