"""`async_r1 sft`: a cold start (R1 report, section 2.3.1) through the learner's own code."""

import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from async_r1 import schema
from async_r1.coldstart import examples
from async_r1.config import Config, SftPhase
from async_r1.errors import ConfigError, TrainingError
from async_r1.model_files import check_named_model
from async_r1.role import Role
from async_r1.run_dir import write_json
from async_r1.templates import PromptForm
from learner import guards
from learner.backend import Backend, StepResult
from learner.batching import MicroBatch, collate, plan
from learner.checkpoint import save_checkpoint, write_hf
from learner.examples import Examples, tokenise
from learner.model import load_policy, source_dir
from learner.ranks import join
from learner.schedule import factor
from learner.statistics import Statistics

LR_MIN_FRAC = 0.1
START_TIMEOUT_S = 300.0
STATUS_EVERY = 20  # steps


def run(role: Role) -> None:
    """Train through all phases and write the checkpoint.

    Raises:
        ConfigError: no phases, or examples that do not fit the model.
        TrainingError: NaN or infinity.
    """
    config = role.config
    _check(config)
    ranks = join(role.index, config.learner.ranks, START_TIMEOUT_S)
    try:
        source = _source(role, config, ranks.rank)
        ranks.barrier()
        role.status("starting", f"loading {source}")
        path = replace(config.model, path=str(source))
        backend = Backend(load_policy(path, config.learner, temperature=1.0), config.learner, ranks)
        tokenizer = AutoTokenizer.from_pretrained(source)
        rows = role.metrics("learner") if ranks.rank == 0 else None
        num_steps = sum(phase.updates for phase in config.sft.phases)
        for row in train(config, backend, tokenizer):
            if row["step"] % STATUS_EVERY == 0:
                role.status("running", f"step {row['step']} of {num_steps}: {row['loss/sft']:.3f}")
            if rows is not None:
                rows.write(row)
        weights = guards.finite_weights(backend.full_weights())
        if ranks.rank == 0:
            out = _write(role, config, weights, source)
            role.log.info("checkpoint: %s", out)
        for _ in weights:  # gathering is a collective: every rank goes through all of them
            pass
        ranks.barrier()
    finally:
        ranks.close()
    role.status("done")


def train(
    config: Config, backend: Backend, tokenizer: PreTrainedTokenizerBase
) -> Iterator[dict[str, Any]]:
    """All phases in order; yields a metrics row after each optimizer step."""
    step = tokens = 0
    form = PromptForm(config.task, tokenizer)
    for index, phase in enumerate(config.sft.phases):
        stream = examples(config.task, config.sft, config.seed, index)
        for update in range(phase.updates):
            started = time.monotonic()
            batch = tokenise(
                form,
                itertools.islice(stream, phase.batch_size),
                max_length=config.model.max_length,
            )
            step += 1
            try:
                result = _train_step(backend, batch, config, _learning_rate(phase, update))
            except TrainingError as error:
                raise TrainingError(f"{error} at step {step}, phase {index}") from error
            tokens += len(batch.token_ids)
            step_s = time.monotonic() - started
            yield {
                "step": step,
                "policy_version": 0,
                "phase": index,
                "tokens": tokens,
                "loss/sft": result.totals.sums["loss"],
                "entropy/mean": result.totals.mean("entropy"),
                "optim/lr": result.lr,
                "optim/grad_norm": result.grad_norm,
                "completion_length/mean": float(batch.completion_lens.mean()),
                "time/step_s": step_s,
                "perf/tokens_per_s": len(batch.token_ids) / step_s,
            }


def _train_step(backend: Backend, batch: Examples, config: Config, lr: float) -> StepResult:
    ranks = backend.ranks
    shared = backend.policy.shares_prompts
    mine = plan(batch, ranks.size, config.learner.micro_batch_tokens, shared=shared)[ranks.rank]
    fields = {"weights": np.full(len(batch.token_ids), 1.0 / len(batch.token_ids), np.float32)}
    micro_batches = [collate(batch, fields, rows, backend.device) for rows in mine]
    return backend.train_step(micro_batches, _loss, lambda _: lr)


def _loss(batch: MicroBatch, logprobs: Tensor, entropies: Tensor) -> tuple[Tensor, Statistics]:
    """Mean negative log-likelihood of the completion tokens of the whole step."""
    weights = batch.fields["weights"]
    loss = -(logprobs * weights).sum()
    statistics = Statistics()
    statistics.add("tokens", weights > 0)
    statistics.add("loss", loss)
    statistics.add("entropy", entropies * (weights > 0))
    return loss, statistics


def _learning_rate(phase: SftPhase, update: int) -> float:
    share = factor(update, phase.updates, phase.warmup_updates, "linear", LR_MIN_FRAC)
    return phase.lr * share


def _check(config: Config) -> None:
    if not config.sft.phases:
        raise ConfigError("sft.phases must hold at least one phase, got none")
    if not config.model.init and not config.model.path:
        raise ConfigError("sft starts from model.path or from model.init, got neither")


def _source(role: Role, config: Config, rank: int) -> Path:
    """Directory of the model to start from; made by rank 0 if it is to be new."""
    if not config.model.init:
        check_named_model(config.model.path, config.task)
        return source_dir(config.model.path)
    path = role.run_dir.root / "init_model"
    if rank == 0:
        if config.model.init == "random":
            from learner.random_model import build_random

            model = config.model
            build_random(path, model.shape, seed=config.seed, dtype=model.dtype)
            return path
        from learner.nano import MAX_LENGTH, build_nano

        build_nano(
            path,
            seed=config.seed,
            tie_embeddings=config.model.tie_embeddings,
            max_length=max(MAX_LENGTH, config.model.max_length),
        )
    return path


def _write(role: Role, config: Config, weights: Iterable[tuple[str, Tensor]], source: Path) -> Path:
    """The checkpoint and beside it `coldstart.json`, which says how it was made."""
    if config.sft.out:
        out = Path(config.sft.out)
        out.mkdir(parents=True, exist_ok=True)
        write_hf(out, weights, source)
    else:
        out = save_checkpoint(role.run_dir.checkpoint(0), weights, source, version=0)
    facts = {
        "command": _command(role, config),
        "seed": config.seed,
        "config": schema.to_dict(config),
    }
    write_json(out / "coldstart.json", facts)
    return out


def _command(role: Role, config: Config) -> str:
    overrides = role.run_dir.config / "overrides.yaml"
    if overrides.exists():
        lines = overrides.read_text().splitlines()
        given = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
        return " ".join(["async_r1 sft", *given])
    return f"async_r1 sft experiment={config.experiment}"
