"""Sums of many labelled terms: careful solutions of hundreds to thousands of tokens.

A question has terms of two digits, 10 to 99, each with a letter: "A47+B13+C99=". The level says how
many, and with them how long a careful solution is (`long_sums_solutions`), 54 tokens a term:

    level                1      2      3       4       5
    terms                3..4   5..8   9..16   17..32  33..42
    tokens, careful      170    280    490     920     1,790
      up to              225    440    873     1,737   2,277

A distribution over the levels with a long tail is `task.levels` with repetitions: levels take
turns, so [1, 1, 1, 5] asks a long one in four.

As in `arithmetic`, an id holds its question, and a hash of the terms, whatever their order and
whatever the seed, decides the split.
"""

import hashlib
import random
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from async_r1.config_task import TaskConfig
from async_r1.errors import TaskError
from async_r1.schema import nearest
from async_r1.tasks import long_sums_solutions as solutions
from async_r1.tasks.protocol import Completion, Prompt, Split
from async_r1.templates import extract_answer

NUM_TERMS = {1: (3, 4), 2: (5, 8), 3: (9, 16), 4: (17, 32), 5: (33, 42)}
MAX_PROMPTS = 50_000  # per split; level 1 holds out about 100,000 of its questions
_TERM = (10, 99)
_EVAL_SHARE = 10  # one question in so many is held out


class LongSums:
    """The task `long_sums`.

    Options:
        blunt_skill: probability that a `blunt` demonstration adds a term right.
    """

    name = "long_sums"
    styles = ("blunt", "careful")
    levels = tuple(NUM_TERMS)

    def __init__(self, cfg: TaskConfig):
        self._seed = cfg.seed
        train = list(cfg.levels or self.levels)
        self._levels = {"train": train, "eval": list(cfg.eval_levels or train)}
        self._counts = {"train": cfg.num_train or MAX_PROMPTS, "eval": cfg.num_eval}
        for levels in self._levels.values():
            if not set(levels) <= set(NUM_TERMS):
                raise TaskError(
                    f"levels of task {self.name} are 1 to {max(NUM_TERMS)}, got {levels}"
                )
        if max(self._counts.values()) > MAX_PROMPTS:
            raise TaskError(f"task {self.name} has up to {MAX_PROMPTS} prompts, got {self._counts}")
        self._blunt_skill = _blunt_skill(cfg.options)
        self._prompts = cache(self._build)

    def prompts(self, split: Split) -> Sequence[Prompt]:
        """All prompts of a split, levels taking turns; no question twice."""
        return self._prompts(split)

    def get(self, prompt_id: str) -> Prompt:
        """The prompt of an id, also one from another seed or size of the prompt set."""
        terms = _terms(prompt_id)
        level = _level(terms)
        if level is None or _prompt_id(terms) != prompt_id:
            raise TaskError(f"task {self.name} has no prompt {prompt_id!r}")
        return _prompt(terms, level)

    def score(self, prompt: Prompt, completion: Completion) -> float:
        """1 if the answer is the reference, character by character, else 0."""
        return float(extract_answer(completion.text) == prompt.answer)

    def draw(self, level: int, rng: random.Random) -> Prompt:
        """A random question of the level that is never held out."""
        return _prompt(_draw(level, "train", rng), level)

    def demonstrate(self, prompt: Prompt, style: str, rng: random.Random) -> str:
        """A solution in one of the styles of `long_sums_solutions`."""
        terms = _terms(prompt.prompt_id)
        if style == "blunt":
            return solutions.blunt(terms, rng, skill=self._blunt_skill)
        if style == "careful":
            return solutions.careful(terms)
        raise TaskError(f"style must be one of {', '.join(self.styles)}, got {style!r}")

    def _build(self, split: Split) -> tuple[Prompt, ...]:
        rng = random.Random(f"{self.name} {split} {self._seed}")
        levels = self._levels[split]
        found: dict[str, Prompt] = {}
        while len(found) < self._counts[split]:
            level = levels[len(found) % len(levels)]
            prompt = _prompt(_draw(level, split, rng), level)
            found.setdefault(prompt.prompt_id, prompt)
        return tuple(found.values())


def _prompt(terms: Sequence[int], level: int) -> Prompt:
    return Prompt(
        _prompt_id(terms), solutions.question(terms), solutions.answer(sum(terms)), level
    )


def _prompt_id(terms: Sequence[int]) -> str:
    return f"{LongSums.name}/{'+'.join(map(str, terms))}"


def _terms(prompt_id: str) -> list[int]:
    terms = prompt_id.removeprefix(f"{LongSums.name}/").split("+")
    return [int(term) for term in terms if re.fullmatch("[1-9][0-9]", term)]


def _level(terms: Sequence[int]) -> int | None:
    """The level that a sum belongs to, if any."""
    for level, (fewest, most) in NUM_TERMS.items():
        if fewest <= len(terms) <= most:
            return level
    return None


def _draw(level: int, split: Split, rng: random.Random) -> list[int]:
    while True:
        terms = [rng.randint(*_TERM) for _ in range(rng.randint(*NUM_TERMS[level]))]
        if _held_out(terms) == (split == "eval"):
            return terms


def _held_out(terms: Sequence[int]) -> bool:
    digest = hashlib.blake2b(repr(sorted(terms)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % _EVAL_SHARE == 0


def _blunt_skill(given: dict[str, Any]) -> float:
    for key in given:
        if key != "blunt_skill":
            match = nearest(key, ["blunt_skill"])
            hint = f"; did you mean {match}?" if match else "; known: blunt_skill"
            raise TaskError(f"unknown option task.options.{key} of task {LongSums.name}{hint}")
    skill = given.get("blunt_skill", 0.5)
    if not isinstance(skill, int | float) or not 0 <= skill <= 1:
        raise TaskError(f"task.options.blunt_skill must be in [0, 1], got {skill!r}")
    return float(skill)
