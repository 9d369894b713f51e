"""The datasets of reasoning-gym: procedural questions, each with a scorer of its own.

`task.levels` are levels of the dataset's curriculum, from 0: level n sets every attribute of the
curriculum (or those that `task.options.curriculum` names) to its level n, or to its last. Without
`task.levels` the dataset has its own difficulty or that of `task.options.parameters`, as level 0.

Questions are generated when asked for. One question in three is held out, by a hash of its text:
the splits share none under any seed, which different seeds alone do not ensure (most datasets draw
question i from seed + i). An id says how to generate its question, and has a hash of it too: some
datasets depend on Python's own hash seed, and then give another question in another process.
"""

import hashlib
import logging
import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from async_r1.config_task import TaskConfig
from async_r1.errors import TaskError
from async_r1.tasks import reasoning_gym_datasets as datasets
from async_r1.tasks.answers import find_answer
from async_r1.tasks.lazy import LazyPrompts
from async_r1.tasks.options import one_line, read_options
from async_r1.tasks.protocol import Completion, Prompt, Split

log = logging.getLogger(__name__)

_EVAL_SHARE = 3  # one question in so many is held out
_MAX_TRIES = 300  # for one prompt, before the dataset counts as out of questions
_ALL = 100_000  # prompts that train if task.num_train asks for all: there is no end of them
_EVAL_SEED = 1 << 30  # apart from the seeds of training, of which there are fewer
_SEED_STRIDE = 1_000_003
_RESEED_STRIDE = 7_919


class ReasoningGym:
    """The task `reasoning_gym`; its options are `reasoning_gym_datasets.Options`."""

    name = "reasoning_gym"
    isolated = True  # scorers parse expressions, and replay whole games

    def __init__(self, cfg: TaskConfig):
        self._options = read_options(datasets.Options, cfg)
        self._weights = datasets.weights(self._options.dataset)
        self._seeds = {"train": cfg.seed * _SEED_STRIDE % _EVAL_SEED, "eval": _EVAL_SEED}
        train = list(cfg.levels or [0])
        self._levels = {"train": train, "eval": list(cfg.eval_levels or train)}
        self._num_eval = cfg.num_eval
        self._num_train = cfg.num_train or _ALL
        self._curriculum = bool(cfg.levels or cfg.eval_levels)
        highest = max(datasets.num_levels(name) for name in self._weights)
        self.levels = tuple(range(highest)) if self._curriculum else (0,)
        self._dataset = lru_cache(64)(self._make_dataset)
        self._entry = lru_cache(4096)(self._make_entry)
        self._eval: tuple[Prompt, ...] | None = None
        self._reported: set[tuple[str, str]] = set()
        for name in self._weights:  # every level's parameters, before anything starts
            for level in {*self._levels["train"], *self._levels["eval"]}:
                self._dataset(name, level, 0)

    def prompts(self, split: Split) -> Sequence[Prompt]:
        """Training prompts are generated as they are read; those of the eval split at once."""
        if split == "train":
            return LazyPrompts(
                self._num_train, self._train_prompt, slow=True, levels=self._train_levels
            )
        if self._eval is None:
            self._eval = tuple(self._eval_prompts())
        return self._eval

    def get(self, prompt_id: str) -> Prompt:
        """The prompt of an id, generated again; also of another seed, not of other options."""
        name, level, seed, index, digest = self._fields(prompt_id)
        prompt = self._prompt(name, level, seed, index)
        if prompt.prompt_id.rpartition("/")[2] != digest:
            raise TaskError(
                f"prompt {prompt_id} has another question now: other task.options, or a dataset "
                f"that depends on Python's hash seed (set PYTHONHASHSEED=0)"
            )
        return prompt

    def held_out(self, prompt_id: str) -> bool:
        """Whether the question never trains."""
        return _held_out(self.get(prompt_id).text)

    def score(self, prompt: Prompt, completion: Completion) -> float:
        """1 if the dataset gives the answer full marks, else 0; with `partial` its own fraction.

        An answer that the dataset's scorer fails on is wrong; the first such failure of each kind
        is logged.
        """
        answer = find_answer(completion.text, self._options.answer_from)
        if answer is None:
            return 0.0
        name, level, seed, index, _ = self._fields(prompt.prompt_id)
        entry = self._entry(name, level, seed, index)
        try:
            score = float(self._dataset(name, level, seed).score_answer(answer, entry))
        except Exception as error:  # any: whatever the policy wrote went through a parser
            kind = (name, type(error).__name__)
            if kind not in self._reported:
                self._reported.add(kind)
                log.warning("%s cannot score %.80r: %s", name, answer, one_line(error))
            return 0.0
        if not self._options.partial:
            return float(score == 1.0)
        return min(max(score, 0.0), 1.0)

    def _train_levels(self) -> Sequence[int]:
        return np.resize(self._levels["train"], self._num_train).tolist()

    def _train_prompt(self, position: int) -> Prompt:
        levels = self._levels["train"]
        level = levels[position % len(levels)]
        for attempt in range(_MAX_TRIES):
            index = position + attempt * self._num_train
            prompt = self._draw(level, self._seeds["train"], index)
            if not _held_out(prompt.text):
                return prompt
        raise TaskError(
            f"task {self.name} finds no question of level {level} that is not held out in "
            f"{_MAX_TRIES} tries: {', '.join(self._weights)} has too few of them"
        )

    def _eval_prompts(self) -> list[Prompt]:
        levels = self._levels["eval"]
        misses = dict.fromkeys(levels, 0)
        found: dict[str, Prompt] = {}
        index = 0
        while len(found) < self._num_eval and min(misses.values()) < _MAX_TRIES:
            level = levels[index % len(levels)]
            if misses[level] < _MAX_TRIES:
                prompt = self._draw(level, self._seeds["eval"], index)
                new = _held_out(prompt.text) and prompt.text not in found
                misses[level] = 0 if new else misses[level] + 1
                if new:
                    found[prompt.text] = prompt
            index += 1
        if len(found) < self._num_eval:
            log.warning("%s has %d held-out questions of these levels", self.name, len(found))
        return list(found.values())

    def _draw(self, level: int, seed: int, index: int) -> Prompt:
        names, shares = list(self._weights), list(self._weights.values())
        (name,) = random.Random(f"{seed} {index}").choices(names, shares)
        return self._prompt(name, level, seed, index)

    def _prompt(self, name: str, level: int, seed: int, index: int) -> Prompt:
        entry = self._entry(name, level, seed, index)
        question, answer = entry["question"], entry["answer"]
        digest = hashlib.blake2b(f"{question}\0{answer}".encode(), digest_size=4).hexdigest()
        return Prompt(
            prompt_id=f"{self.name}/{name}/{level}/{seed}/{index}/{digest}",
            text=question,
            answer="" if answer is None else str(answer),  # some have no reference, only a rule
            level=level,
            extra={"dataset": name},
        )

    def _fields(self, prompt_id: str) -> tuple[str, int, int, int, str]:
        try:
            task, name, *numbers, digest = prompt_id.split("/")
            level, seed, index = (int(number) for number in numbers if number.isascii())
        except ValueError:
            task, name, level, seed, index, digest = "", "", 0, 0, 0, ""
        known = task == self.name and name in self._weights and level in self.levels
        if not known or seed < 0 or index < 0:
            raise TaskError(f"task {self.name} has no prompt {prompt_id!r}")
        return name, level, seed, index, digest

    def _make_dataset(self, name: str, level: int, seed: int) -> Any:
        return datasets.make(name, self._options, seed, level if self._curriculum else None)

    def _make_entry(self, name: str, level: int, seed: int, index: int) -> dict[str, Any]:
        size = self._options.size
        try:
            try:
                entry: dict[str, Any] = self._dataset(name, level, seed)[index]
            except IndexError:  # a dataset that has no more than its size
                seeded_anew = seed + index // size * _RESEED_STRIDE
                entry = self._dataset(name, level, seeded_anew)[index % size]
        except Exception as error:
            raise TaskError(
                f"reasoning-gym's {name} fails at level {level}, seed {seed}, index {index}: "
                f"{one_line(error)}"
            ) from error
        return entry


def _held_out(question: str) -> bool:
    digest = hashlib.blake2b(" ".join(question.split()).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % _EVAL_SHARE == 0
