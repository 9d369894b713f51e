"""Samples and scores the completions of a job (`eval`, `curate`) outside of the training loop.

    items --> engine --> scorer --> rows in the job's samples file

Rows are written as they come, and what the file already holds is not sampled again. Every
completion has a seed of its own. With the engine in this process, two calls sample the same
tokens; an engine in its own process batches by time, which float rounding may show.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from actors.engine import SamplingEngine, SamplingRequest
from actors.engine_args import for_seeds
from actors.prompt_check import check_prompts, room_for
from actors.scoring import Scored, Scorer
from actors.tokenizer import load_tokenizer
from async_r1.config import Config
from async_r1.errors import TaskError
from async_r1.offline_items import Item, SampleLog, digest, write_prompts
from async_r1.offline_jobs import JOBS, prompts_file
from async_r1.rewards import is_right
from async_r1.role import Role
from async_r1.tasks import load_task
from async_r1.tasks.protocol import Task
from async_r1.templates import PromptForm
from async_r1.types import FinishReason

STATUS_EVERY_S = 1.0
SCORER_START_S = 120.0


def run(role: Role, name: str) -> None:
    """Sample what the job of this name still lacks.

    Raises:
        AsyncR1Error: model, task or a prompt is not usable as given.
    """
    config, job = role.config, JOBS[name]
    tokenizer, stops = load_tokenizer(config)
    task = load_task(config.task)
    split = job.split(config)
    prompts = list(task.prompts(split))
    if not prompts:
        raise TaskError(f"task {task.name} has no prompt in its {split} split")
    check_prompts(config, task, PromptForm(config.task, tokenizer), split)
    write_prompts(prompts_file(role.run_dir), prompts)
    items = list(job.items(config, prompts))
    with SampleLog(job.samples(config, role.run_dir)) as log:
        log.check(prompts)
        missing = [item for item in items if item.key not in log.done]
        progress = _Progress(role, len(items) - len(missing), len(items))
        if missing:
            role.status("starting", f"loading {config.model.path} into vLLM")
            engine = SamplingEngine(_with_seeds(config), seed=config.seed, stop_token_ids=stops)
            scorer = Scorer(config, task, tokenizer, stops)
            progress.start()
            try:
                for row in sample(config, engine, scorer, task, missing):
                    log.write(row)
                    progress.add(row["num_tokens"])
            finally:
                scorer.close()
                engine.close()
    role.status("done", progress.text)


def sample(
    config: Config, engine: SamplingEngine, scorer: Scorer, task: Task, items: Iterable[Item]
) -> Iterator[dict[str, Any]]:
    """A row (see `SampleLog`) for each item, in the order of their end.

    Raises:
        ConfigError: a prompt with its prefix leaves no room for a completion.
        DeadlineError: a score took longer than its processes are given.
    """
    waiting = iter(items)
    sampled: dict[int, tuple[Item, list[int]]] = {}
    ended: dict[int, tuple[Item, int, bool]] = {}
    number = 0
    while True:
        while engine.num_in_flight < config.actors.max_concurrent:
            item = next(waiting, None)
            if item is None:
                break
            engine.submit(_request(config, scorer, number, item))
            sampled[number] = (item, [])
            number += 1
        if engine.num_in_flight:
            for chunk in engine.step():
                item, token_ids = sampled[chunk.key]
                token_ids.extend(chunk.token_ids)
                if chunk.finish_reason is None:
                    continue
                del sampled[chunk.key]
                reason = chunk.finish_reason
                cut = reason is FinishReason.LENGTH
                if item.kind == "guess":  # cut short on purpose: judged by what it says
                    reason = FinishReason.STOP
                ended[chunk.key] = (item, len(token_ids), cut)
                scorer.submit(
                    chunk.key,
                    prompt_id=item.prompt_id,
                    token_ids=np.asarray(token_ids, dtype=np.int32),
                    finish_reason=reason,
                    prefix=item.prefix,
                )
            scores = scorer.finished()
        elif scorer.num_pending:
            patience = config.reward.timeout_s * (scorer.num_pending + 1) + SCORER_START_S
            scores = scorer.wait(patience)
        else:
            return
        for scored in scores:
            item, num_tokens, cut = ended.pop(scored.key)
            yield _row(task, item, num_tokens, cut, scored)


def _with_seeds(config: Config) -> Config:
    engine = {**for_seeds(), **config.actors.engine}
    return replace(config, actors=replace(config.actors, engine=engine))


def _request(config: Config, scorer: Scorer, number: int, item: Item) -> SamplingRequest:
    prompt_ids = scorer.prompt_token_ids(item.prompt_id, item.prefix)
    return SamplingRequest(
        key=number,
        token_ids=prompt_ids,
        max_new_tokens=min(item.max_new_tokens, room_for(config, item.prompt_id, len(prompt_ids))),
        temperature=item.temperature,
        seed=item.seed(config.seed),
    )


def _row(task: Task, item: Item, num_tokens: int, cut: bool, scored: Scored) -> dict[str, Any]:
    prompt = task.get(item.prompt_id)
    return {
        "prompt_id": item.prompt_id,
        "asked": digest(prompt),
        "kind": item.kind,
        "index": item.index,
        "level": prompt.level,
        "correct": is_right(scored.rewards.get("task", 0.0)),
        "rewards": scored.rewards,
        "error": scored.error,
        "num_tokens": num_tokens,
        "truncated": cut,
        "text": scored.text,
    }


class _Progress:
    """What the launcher shows."""

    def __init__(self, role: Role, num_done: int, num_items: int) -> None:
        self._role = role
        self._num_done = num_done
        self._num_items = num_items
        self._num_tokens = 0
        self._started = self._said = time.monotonic()

    @property
    def text(self) -> str:
        text = f"{self._num_done:,} of {self._num_items:,} completions"
        rate = self._num_tokens / max(time.monotonic() - self._started, 1e-9)
        return f"{text}, {rate:,.0f} tokens/s" if self._num_tokens else text

    def start(self) -> None:
        self._started = time.monotonic()
        self._say()

    def add(self, num_tokens: int) -> None:
        self._num_done += 1
        self._num_tokens += num_tokens
        if time.monotonic() - self._said >= STATUS_EVERY_S:
            self._say()

    def _say(self) -> None:
        self._said = time.monotonic()
        self._role.status("running", self.text)
