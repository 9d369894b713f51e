"""TRL's side of `versus_trl.py`, run in TRL's environment: train | calibrate | evaluate JOB.json.

The job file holds prompts, held-out prompts, sizes, the learning rate of every step and the target.
Answers are JSON lines on standard output. Rewards are those of `async_r1` itself, whose templates
need nothing but the standard library: PYTHONPATH names the checkout. `evaluate` is also how the
checkpoints of `async_r1` are measured, so that both sides are judged by the same code.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from greedy import accuracies, greedy_accuracy
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from async_r1.templates import extract_answer, is_well_formed

Job = dict[str, Any]


def main() -> int:
    command, path, *rest = sys.argv[1:]
    job: Job = json.loads(Path(path).read_text())
    torch.set_num_threads(job["threads"])
    {"train": train, "calibrate": calibrate, "evaluate": evaluate}[command](job, *rest)
    return 0


def say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


def train(job: Job) -> None:
    """Train until the target, the last step, or the end of the time; a line per measurement."""
    trainer, clock = make_trainer(job, job["micro_batch"], Measuring(job))
    trainer.train()
    say(
        done=True,
        steps=trainer.state.global_step,
        step_s=statistics.median(clock.step_s),
        train_s=sum(clock.step_s),
    )


def calibrate(job: Job) -> None:
    """Seconds of a step at each micro-batch, and with one thread at the best of them."""
    found: dict[int, float] = {}
    for micro_batch in job["micro_batches"]:
        found[micro_batch] = seconds_per_step(job, micro_batch)
        say(micro_batch=micro_batch, threads=job["threads"], step_s=found[micro_batch])
    best = min(found, key=lambda micro_batch: found[micro_batch])
    if job["threads"] > 1:
        torch.set_num_threads(1)
        say(micro_batch=best, threads=1, step_s=seconds_per_step(job, best))


def seconds_per_step(job: Job, micro_batch: int) -> float:
    steps = job["calibration_steps"]
    trainer, clock = make_trainer({**job, "max_steps": steps}, micro_batch, Clock())
    trainer.train()
    return statistics.median(clock.step_s[1:])


def evaluate(job: Job, *checkpoints: str) -> None:
    """Greedy accuracy of each checkpoint in turn, until one reaches the target."""
    found = accuracies(checkpoints, job["held_out"], job["max_new_tokens"])
    for checkpoint, accuracy in zip(checkpoints, found, strict=True):
        say(checkpoint=checkpoint, accuracy=accuracy)
        if accuracy >= job["target"]:
            return


class Clock(TrainerCallback):
    """Seconds of every step, what happens between two of them left out."""

    def __init__(self) -> None:
        self.step_s: list[float] = []
        self._began = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.step_s.append(time.perf_counter() - self._began)
        self.after_step(state, control, given["model"])
        self._began = time.perf_counter()

    def after_step(self, state: Any, control: Any, model: Any) -> None:
        pass


class Measuring(Clock):
    """Held-out accuracy every few steps, outside the time that counts; ends at the target."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job
        self._tokenizer = tokenizer_of(job)

    def on_train_begin(self, *given: Any, **named: Any) -> None:
        self._measure(0, named["model"])
        super().on_train_begin(*given, **named)

    def after_step(self, state: Any, control: Any, model: Any) -> None:
        late = sum(self.step_s) > self._job["max_minutes"] * 60
        if state.global_step % self._job["every"] and not late:
            return
        reached = self._measure(state.global_step, model) >= self._job["target"]
        control.should_training_stop |= reached or late  # the last step sets it, too

    def _measure(self, step: int, model: Any) -> float:
        accuracy = accuracy_of(model, self._tokenizer, self._job)
        say(step=step, seconds=sum(self.step_s), accuracy=accuracy)
        return accuracy


def make_trainer(job: Job, micro_batch: int, clock: Any) -> tuple[GRPOTrainer, Any]:
    """A GRPOTrainer for the job whose batch goes through the model `micro_batch` at a time."""
    batch = job["groups"] * job["group_size"]
    assert batch % micro_batch == 0, (batch, micro_batch)
    model = load(job["model"])
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(prefix="trl_"),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=batch // micro_batch,
        num_generations=job["group_size"],
        max_completion_length=job["max_new_tokens"],
        max_steps=job["max_steps"],
        temperature=job["temperature"],
        top_p=1.0,
        top_k=0,
        beta=0.0,
        epsilon=0.2,
        loss_type="dapo",  # per token, as `learner` aggregates
        scale_rewards="batch",  # the same deviation as in `advantage_norm=batch`
        max_grad_norm=job["grad_clip"],
        seed=job["seed"],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        logging_steps=1_000_000,
        save_strategy="no",
        report_to="none",
    )
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=job["lr"], betas=tuple(job["betas"]), weight_decay=0.0
    )
    factors = job["lr_factors"]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: factors[min(step, len(factors) - 1)]
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=reward_function(job),
        args=config,
        train_dataset=Dataset.from_list(job["prompts"]),
        processing_class=tokenizer_of(job),
        optimizers=(optimizer, schedule),
        callbacks=[clock],
    )
    return trainer, clock


def reward_function(job: Job) -> Callable[..., list[float]]:
    """The weighted sum of right answer and format, as the run's `reward` section has it."""
    accuracy, form = job["reward"]["accuracy"], job["reward"]["format"]

    def reward(completions: list[str], answer: list[str], **_: Any) -> list[float]:
        return [
            accuracy * (extract_answer(text) == expected) + form * is_well_formed(text)
            for text, expected in zip(completions, answer, strict=True)
        ]

    return reward


def accuracy_of(model: Any, tokenizer: Any, job: Job) -> float:
    return greedy_accuracy(model, tokenizer, job["held_out"], job["max_new_tokens"])


def load(path: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def tokenizer_of(job: Job) -> Any:
    return AutoTokenizer.from_pretrained(job["model"])


if __name__ == "__main__":
    sys.exit(main())
