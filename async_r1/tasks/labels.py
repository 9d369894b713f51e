"""Difficulty labels of `async_r1 curate` in place of a task's own levels (`task.labels`)."""

import hashlib
import json
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from async_r1.config_task import TaskConfig
from async_r1.errors import TaskError
from async_r1.tasks.lazy import LazyPrompts
from async_r1.tasks.options import existing_file
from async_r1.tasks.protocol import Completion, Prompt, Split, Task

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Label:
    """One row of a labels file; `async_r1 curate` writes more."""

    level: int  # "difficulty": 1 is easy
    guessable: bool  # right without reasoning; false where that was not tried
    question: bytes | None = None  # digest of the prompt's text, where the file has it


def read_labels(path: Path) -> dict[str, Label]:
    """Labels by prompt id.

    Raises:
        TaskError: naming the line; it is no label, or labels a prompt again.
    """
    labels: dict[str, Label] = {}
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            prompt_id, label = _read_label(line, f"task.labels: {path} line {number}")
            if prompt_id in labels:
                raise TaskError(f"task.labels: {path} line {number} labels {prompt_id} again")
            labels[prompt_id] = label
    return labels


class LabelledTask:
    """A task of which the labelled prompts train, at the levels of their labels.

    Guessable prompts do not train, nor does what is held out; a prompt without a label is not in
    the list to begin with. `task.levels` chooses among the labels. `task.eval_levels` chooses among
    the task's own levels, which held-out prompts keep unless they have a label too.
    """

    def __init__(self, cfg: TaskConfig, task: Task) -> None:
        """`task` is made of `own_levels(cfg)`.

        Raises:
            TaskError: the file is not there, or not readable.
        """
        path = existing_file(cfg.labels, "task.labels")
        self.name = task.name
        self.isolated = bool(getattr(task, "isolated", False))
        self._cfg = cfg
        self._task = task
        self._path = path
        self._labels = read_labels(path)
        self.levels = tuple(sorted({label.level for label in self._labels.values()}))
        self._train: list[str] | None = None

    def prompts(self, split: Split) -> Sequence[Prompt]:
        """The prompts with a label, in the order of the file; a random choice if too many.

        Raises:
            TaskError: none is left.
        """
        if split == "eval":
            evals = self._task.prompts("eval")
            return LazyPrompts(len(evals), lambda position: self._relabelled(evals[position]))
        if self._train is None:
            self._train = self._choose()
        ids = self._train
        slow = getattr(self._task.prompts("train"), "slow", False)
        labels = self._labels
        return LazyPrompts(
            len(ids),
            lambda position: self.get(ids[position]),
            slow=slow,
            levels=lambda: [labels[prompt_id].level for prompt_id in ids],
        )

    def get(self, prompt_id: str) -> Prompt:
        """The prompt of an id, at the level of its label if it has one."""
        return self._relabelled(self._task.get(prompt_id))

    def score(self, prompt: Prompt, completion: Completion) -> float:
        """As the task scores it."""
        return self._task.score(prompt, completion)

    def warm_up(self) -> None:
        """As the task warms up, if it does."""
        if warm_up := getattr(self._task, "warm_up", None):
            warm_up()

    def _relabelled(self, prompt: Prompt) -> Prompt:
        label = self._labels.get(prompt.prompt_id)
        if label is None:
            return prompt
        if label.question not in (None, _digest(prompt.text)):
            raise TaskError(
                f"task.labels: {self._path} labels another question as {prompt.prompt_id}: the "
                f"prompt set has changed since async_r1 curate"
            )
        return replace(prompt, level=label.level)

    def _choose(self) -> list[str]:
        levels = self._cfg.levels or self.levels
        counts = {"guessable": 0, "of other levels": 0, "held out": 0, "unknown to the task": 0}
        held_out = self._held_out()
        chosen = []
        for prompt_id, label in self._labels.items():
            if label.guessable:
                counts["guessable"] += 1
            elif label.level not in levels:
                counts["of other levels"] += 1
            else:
                try:
                    if held_out(prompt_id):
                        counts["held out"] += 1
                    else:
                        chosen.append(prompt_id)
                except TaskError:
                    counts["unknown to the task"] += 1
        left_out = ", ".join(f"{count} {why}" for why, count in counts.items() if count) or "none"
        log.info("%s: %d of %d labels train; left out: %s", self._path, len(chosen),
                 len(self._labels), left_out)  # fmt: skip
        if not chosen:
            raise TaskError(
                f"task.labels: {self._path} leaves task {self.name} no prompt that trains; of "
                f"{len(self._labels)} labels, left out: {left_out}"
            )
        if 0 < self._cfg.num_train < len(chosen):
            rng = random.Random(f"labels {self._cfg.seed}")
            kept = sorted(rng.sample(range(len(chosen)), self._cfg.num_train))
            chosen = [chosen[position] for position in kept]
        return chosen

    def _held_out(self) -> Any:
        """Whether the question of an id is held out: the task's own rule, or else its list."""
        if rule := getattr(self._task, "held_out", None):
            return rule
        evals = {" ".join(prompt.text.split()) for prompt in self._task.prompts("eval")}
        return lambda prompt_id: " ".join(self._task.get(prompt_id).text.split()) in evals


def own_levels(cfg: TaskConfig) -> TaskConfig:
    """What the task itself is made of when its training levels come from labels."""
    return replace(cfg, levels=[], labels="")


def _read_label(line: str, where: str) -> tuple[str, Label]:
    try:
        row = json.loads(line)
        prompt_id, level, guessable = row["prompt_id"], row["difficulty"], row.get("guessable")
    except (ValueError, RecursionError):
        raise TaskError(f"{where} is not JSON") from None
    except KeyError as error:
        raise TaskError(f"{where} has no {error.args[0]!r}") from None
    except (TypeError, AttributeError):
        raise TaskError(f"{where} is not an object") from None
    if type(prompt_id) is not str or type(level) is not int or guessable not in (True, False, None):
        raise TaskError(
            f"{where} must have a text prompt_id, an integer difficulty and true or false as "
            f"guessable, got {prompt_id!r}, {level!r}, {guessable!r}"
        )
    text = row.get("prompt")
    return prompt_id, Label(level, bool(guessable), _digest(text) if type(text) is str else None)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
