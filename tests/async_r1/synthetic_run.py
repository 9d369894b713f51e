"""A run directory as a run of 100 updates leaves it, made from formulas and a seed."""

import json
import math
import random
from pathlib import Path
from typing import Any

from async_r1.config import (
    ActorsConfig,
    Config,
    LearnerConfig,
    LoggingConfig,
    RunConfig,
    StalenessConfig,
)
from async_r1.role import Resolved
from async_r1.run_dir import RunDir, write_json
from async_r1.schema import to_dict

STARTED_AT = 1_700_000_000.0
START_S = 14.0  # engines load
STEP_S = 2.4
LEVELS = 5


def make_config(path: Path, *, steps: int = 100, actors: int = 2, eta: int = 4) -> Config:
    """The configuration of the synthetic run."""
    return Config(
        experiment="nano_arithmetic",
        run=RunConfig(name=path.name, dir=str(path.parent)),
        actors=ActorsConfig(count=actors),
        learner=LearnerConfig(num_updates=steps, lr=1e-4),
        staleness=StalenessConfig(eta=eta),
        logging=LoggingConfig(console="plain"),
    )


def make_run(
    path: Path,
    *,
    steps: int = 100,
    actors: int = 2,
    seed: int = 0,
    total_steps: int | None = None,
    overrides: dict[int, dict[str, Any]] | None = None,
) -> RunDir:
    """Write a run directory.

    Args:
        steps: optimizer steps done.
        total_steps: learner.num_updates; equal to `steps` (a finished run) if None.
        overrides: values of learner rows by step, for runs in which something went wrong.
    """
    total_steps = steps if total_steps is None else total_steps
    run = RunDir.create(path)
    resolved = Resolved(
        config=make_config(path, steps=total_steps, actors=actors),
        run_dir=str(path),
        buffer_address="tcp://127.0.0.1:5001",
        weights_address="tcp://127.0.0.1:5002",
        started_at=STARTED_AT,
    )
    write_json(run.resolved, to_dict(resolved))
    (run.config / "overrides.yaml").write_text("- experiment=nano_arithmetic\n- seed=0\n")
    rng = random.Random(seed)
    learner = [learner_row(step, total_steps, rng) for step in range(1, steps + 1)]
    for step, values in (overrides or {}).items():
        learner[step - 1].update(values)
    write_rows(run, "learner", learner)
    write_rows(run, "buffer", [buffer_row(row, rng) for row in learner])
    write_rows(run, "eval", [eval_row(s, total_steps, rng) for s in range(0, steps + 1, 10)])
    for index in range(actors):
        write_rows(run, f"actor_{index:03d}", actor_rows(steps, index, rng))
    for step in range(1, steps + 1):
        write_rollouts(run, step, total_steps, rng)
    finished = steps == total_steps
    for name in ("buffer", "learner_000", *(f"actor_{i:03d}" for i in range(actors))):
        write_role(run, name, "done" if finished else "running", "", STARTED_AT + START_S)
    state = "finished" if finished else "running"
    write_json(run.status, {"state": state, "step": steps})
    return run


def wall_s(step: float) -> float:
    """Seconds since the launch at the end of a step; evals stretch every tenth."""
    return round(START_S + STEP_S * step + 0.8 * (step // 10), 3)


def skill(step: float, total_steps: int, level: int = 3) -> float:
    """Success rate of the synthetic policy: later for higher levels."""
    middle = (0.12 + 0.12 * level) * total_steps
    return 0.04 + 0.94 / (1 + math.exp(-(step - middle) / (0.09 * total_steps)))


def learner_row(step: int, total_steps: int, rng: random.Random) -> dict[str, Any]:
    """One row of learner.jsonl."""
    mean_skill = sum(skill(step, total_steps, k) for k in range(1, LEVELS + 1)) / LEVELS
    accuracy = min(1.0, max(0.0, mean_skill + rng.gauss(0, 0.035)))
    length = 31 + 40 * mean_skill + rng.gauss(0, 1.5)
    tokens = round(256 * length)
    wait = abs(rng.gauss(0.45, 0.15))
    return {
        "wall_s": wall_s(step),
        "step": step,
        "policy_version": step - 1,
        "tokens": round(256 * 31 * step + 256 * 20 * step * step / total_steps),
        "reward/mean": accuracy + 0.1 * (0.8 + 0.2 * mean_skill),
        "reward/std": 0.45 * math.sqrt(max(1e-3, accuracy * (1 - accuracy))) * 2,
        "accuracy/mean": accuracy,
        "completion_length/mean": length,
        "completion_length/max": min(256, length * 2.4 + abs(rng.gauss(0, 25))),
        "completion_length/p90": length * 1.5 + rng.gauss(0, 2),
        "completion_length/clip_frac": 0.01,
        "staleness/mean": min(step - 1, abs(rng.gauss(1.15, 0.12))),
        "staleness/max": min(step - 1, rng.choice([2, 3, 3, 3, 4])),
        "staleness/bound": 4,
        "staleness/masked_tokens": 0,
        "versions_per_rollout/mean": 2.3,
        "versions_per_rollout/three_or_more_frac": min(0.6, 0.04 * step) + rng.gauss(0, 0.02),
        "loss/policy": rng.gauss(0, 0.02),
        "loss/total": rng.gauss(0, 0.02),
        "optim/lr": 1e-4,
        "optim/grad_norm": abs(rng.gauss(0.5, 0.1)),
        "ratio/mean": 1 + rng.gauss(0, 0.002),
        "ratio/max": 3 + abs(rng.gauss(0, 1)),
        "ratio/cap_frac": 0.0002,
        "ratio/mask_frac": 0.004,
        "ratio/ess": 0.985 - abs(rng.gauss(0, 0.01)),
        "entropy/mean": 0.5 - 0.3 * mean_skill,
        "reward/zero_std_frac": 0.2,
        "mismatch_kl/mean": 0.0024 * math.exp(rng.gauss(0, 0.3)),
        "logprob_diff/max": 1.4,
        "time/step_s": STEP_S,
        "time/wait_batch_s": wait,
        "time/train_s": STEP_S - wait - 0.1,
        "time/publish_s": 0.1,
        "learner/idle_frac": wait / STEP_S,
        "perf/tokens_per_s": tokens / STEP_S,
        "batch/num_groups": 32,
        "batch/num_rollouts": 256,
        "batch/num_tokens": tokens,
        "perf/peak_memory_gib": 1.2,
    }


def buffer_row(learner: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """One row of buffer.jsonl."""
    return {
        "wall_s": learner["wall_s"] - 0.2,
        "step": learner["step"],
        "policy_version": learner["policy_version"],
        "groups/closed": 40,
        "groups/zero_variance": rng.randint(4, 12),
        "reward/mean": learner["reward/mean"],
        "reward/zero_std_frac": min(1.0, abs(rng.gauss(0.2, 0.05))),
        "accuracy/mean": learner["accuracy/mean"],
        "admission/blocked_frac": abs(rng.gauss(0.1, 0.03)),
        "groups/kept": 12,
        "buffer/samples_per_insert": 1.0,
        "tokens/received": 20_000 * learner["step"],
        **{f"curriculum/success/level_{k}": learner["accuracy/mean"] / k for k in (1, 2, 3)},
        **selection(learner["step"]),
    }


def selection(step: int) -> dict[str, Any]:
    """The metrics of selection bias: of 320 rollouts a version a quarter has no variance, and of
    the longest ones half are late."""
    rollouts, tokens = [20 * step, 160 * step, 140 * step], [200 * step, 9000 * step, 9800 * step]
    shares = {
        "generated": (1.0, 1.0, 1.0),
        "trained": (0.75, 0.75, 0.25),
        "masked": (0.0, 0.0, 0.25),
        "dropped_zero_variance": (0.25, 0.25, 0.25),
        "expired": (0.0, 0.0, 0.25),
    }
    row: dict[str, Any] = {"selection/levels": [1, 4], "selection/length_edges": [8, 46, 64]}
    for fate, share in shares.items():
        for unit, numbers in (("rollouts", rollouts), ("tokens", tokens)):
            by_length = [round(n * part) for n, part in zip(numbers, share, strict=True)]
            row[f"selection/{fate}_{unit}/by_length"] = by_length
            row[f"selection/{fate}_{unit}/by_level"] = [by_length[0] + by_length[1], by_length[2]]
        row[f"selection/{fate}_length/mean"] = 59.4
    for what, value in (("length", 0.03), ("tokens", 0.05), ("level", 0.02)):
        row[f"selection/ks_{what}"] = 2 * value
        row[f"selection/ks_{what}/with_variance"] = value
    return {**row, "selection/ks_noise": 0.06, "selection/ks_tokens_noise": 0.07,
            "selection/waiting_rollouts": 96, "selection/biased": 0}  # fmt: skip


def eval_row(step: int, total_steps: int, rng: random.Random) -> dict[str, Any]:
    """One row of eval.jsonl; the policy changed once while it was measured."""
    levels = {
        f"eval/accuracy/level_{k}": min(
            1.0, max(0.0, skill(step, total_steps, k) + rng.gauss(0, 0.02))
        )
        for k in range(1, LEVELS + 1)
    }
    accuracy = sum(levels.values()) / LEVELS
    return {
        "wall_s": wall_s(step) + 1.5,
        "step": step,
        "policy_version": step,
        "policy_version_max": step + 1 if 0 < step < total_steps else step,
        "eval/accuracy": accuracy,
        **levels,
        "eval/accuracy/ci95": 1.96 * math.sqrt(accuracy * (1 - accuracy) / 128),
        "eval/format": 0.8 + 0.2 * accuracy,
        "eval/completion_length/mean": 30 + 40 * accuracy,
        "eval/clip_frac": 0.0,
        "eval/num_prompts": 128,
        "time/eval_s": 1.4,
    }


def actor_rows(steps: int, index: int, rng: random.Random) -> list[dict[str, Any]]:
    """Rows of one actor: one per version loaded."""
    rows = []
    sampled = 0
    for version in range(1 + index, steps + 1):  # each actor joins a version later
        rate = 2100 + 15 * index + 3 * version + rng.gauss(0, 120)
        sampled += round(rate * STEP_S)
        rows.append(
            {
                "wall_s": wall_s(version) + 0.05 * (index + 1),
                "step": len(rows) + 1,  # actors do not know the learner's steps
                "policy_version": version,
                "perf/tokens_per_s": rate,
                "actor/idle_frac": min(1.0, abs(rng.gauss(0.06, 0.02)) + 0.3 / version),
                "actor/in_flight": 64,
                "tokens/sampled": sampled,
                "time/update_s": 0.05,
            }
        )
    return rows


def write_rollouts(run: RunDir, step: int, total_steps: int, rng: random.Random) -> None:
    """The best and worst rollouts of a step, as the buffer keeps them; a token is a character."""
    rows = []
    for best in (True, False):
        for k in range(3):
            terms = [rng.randint(100, 999) for _ in range(2 + k)]
            careful = best and step > total_steps / 10
            answer = sum(terms) if best else sum(terms) + rng.choice([-10, 1, 100])
            think = careful_thought(terms) if careful else "I think it is clear."
            text = f"<think>{think}</think><answer>{answer}</answer>"
            num_tokens = len(text)
            split = num_tokens // 3
            spans = [[max(0, step - 3), split], [max(0, step - 2), split]]
            spans.append([step - 1, num_tokens - 2 * split])
            rewards = {"accuracy": float(best), "format": 1.0, "task": float(best)}
            rows.append(
                {
                    "rollout_id": 256 * step + 3 * best + k,
                    "prompt_id": f"arithmetic/{'+'.join(map(str, terms))}",
                    "level": k + 2,
                    "prompt": "+".join(map(str, terms)) + "=?\n",
                    "text": text,
                    "rewards": {**rewards, "total": float(best) + 0.1},
                    "num_tokens": num_tokens,
                    "versions": spans,
                    "token_ids": [ord(c) for c in text],
                    "leases": [["actor_000", split], ["actor_001", num_tokens - split]],
                    "swaps": [2 * split],
                    "truncated": False,
                    "kept": ["best" if best else "worst"],
                }
            )
    lines = [json.dumps(row) + "\n" for row in rows]
    run.rollouts_file(step).write_text("".join(lines))


def careful_thought(terms: list[int]) -> str:
    """Running sums, one per line."""
    total, lines = terms[0], []
    for term in terms[1:]:
        lines.append(f"{total}+{term}={total + term}")
        total += term
    return "\n".join(lines)


def write_rows(run: RunDir, stream: str, rows: list[dict[str, Any]]) -> None:
    """Append rows to a metric file."""
    with run.metrics_file(stream).open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def write_role(run: RunDir, name: str, state: str, detail: str, since: float) -> None:
    """A role's status file."""
    write_json(run.role_file(name), {"state": state, "detail": detail, "since": since, "pid": 4711})


if __name__ == "__main__":
    import sys

    make_run(Path(sys.argv[1]))
