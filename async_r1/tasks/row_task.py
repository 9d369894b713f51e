"""A task over rows of data, whatever file or dataset they come from."""

import logging
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from async_r1 import math_answers
from async_r1.config_task import TaskConfig
from async_r1.errors import TaskError
from async_r1.tasks.answers import answer_checker, score_answer
from async_r1.tasks.lazy import LazyPrompts
from async_r1.tasks.protocol import Completion, Prompt, Split
from async_r1.tasks.row_index import RowIndex, hash_of, index_rows, question_hash
from async_r1.tasks.rows import BadRow, RowOptions, RowReader, Rows

log = logging.getLogger(__name__)


class RowTask:
    """Prompts stay where they are, and are read again when they are asked for.

    What is held out is a source of its own, or a share of the only source by a hash of the
    question. A question of both sources does not train.
    """

    def __init__(
        self, cfg: TaskConfig, options: RowOptions, train: Rows, evals: Rows | None
    ) -> None:
        """Reads no rows yet.

        Raises:
            TaskError: an option cannot be as it is, or math-verify is not installed.
        """
        self.name = cfg.name
        self.isolated = options.answer == "math"  # sympy may hang
        self._cfg = cfg
        self._options = options
        self._sources = [(train, RowReader(f"{cfg.name}/", options))]
        if evals is not None:
            self._sources.append((evals, RowReader(f"{cfg.name}/eval/", options)))
        self._matches = answer_checker(options.answer)
        if options.answer == "math" and find_spec("math_verify") is None:
            raise TaskError(
                f"task {cfg.name}: task.options.answer=math needs the package math-verify: "
                f"pip install 'async_r1[math]'"
            )

    def warm_up(self) -> None:
        """Import what scoring needs, in the process that scores."""
        if self.isolated:
            math_answers.warm_up()

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels of the rows that may train."""
        return tuple(np.unique(self._splits["train"].levels).tolist())

    def prompts(self, split: Split) -> Sequence[Prompt]:
        """Prompts of a split in the order of their rows; a random choice if there are too many.

        Raises:
            TaskError: there are bad rows, or rows but none of the levels asked for.
        """
        index = self._splits[split]
        source = len(self._sources) - 1 if split == "eval" else 0
        kept = np.arange(len(index.numbers))
        levels = self._cfg.levels
        if split == "eval":
            levels = self._cfg.eval_levels or levels
        if levels:
            kept = kept[np.isin(index.levels, levels)]
        if len(index.numbers) and not len(kept):
            has = ", ".join(map(str, np.unique(index.levels)[:20].tolist()))
            raise TaskError(
                f"{self._sources[source][0].label} has no {split} prompt of levels {levels}: an "
                f"empty task; it has levels {has}"
            )
        wanted = self._cfg.num_train if split == "train" else self._cfg.num_eval
        if 0 < wanted < len(kept):
            log.info("%s: %d of %d %s prompts are in use", self.name, wanted, len(kept), split)
            rng = np.random.default_rng([self._cfg.seed, int(split == "eval")])
            kept = np.sort(rng.choice(kept, wanted, replace=False))
        numbers = index.numbers[kept]
        levels_kept = index.levels[kept]
        return LazyPrompts(
            len(kept),
            lambda position: self._read(source, int(numbers[position])),
            levels=lambda: levels_kept,
        )

    def get(self, prompt_id: str) -> Prompt:
        """The prompt of an id, whether or not its level is in use."""
        wanted = np.uint64(hash_of(prompt_id))
        for source, (hashes, numbers) in enumerate(self._by_id):
            found = int(np.searchsorted(hashes, wanted))
            if found < len(hashes) and hashes[found] == wanted:
                prompt = self._read(source, int(numbers[found]))
                if prompt.prompt_id == prompt_id:
                    return prompt
        raise TaskError(f"task {self.name} has no prompt {prompt_id!r}")

    def held_out(self, prompt_id: str) -> bool:
        """Whether the question never trains."""
        question = np.uint64(question_hash(self.get(prompt_id).text))
        hashes = self._held_out
        found = int(np.searchsorted(hashes, question))
        return found < len(hashes) and bool(hashes[found] == question)

    def score(self, prompt: Prompt, completion: Completion) -> float:
        """1 if the completion's answer is the reference as `task.options.answer` has it, else 0.

        Raises:
            TaskError: the reference cannot be read.
        """
        return score_answer(prompt, completion, self._options.answer_from, self._matches)

    @cached_property
    def _indices(self) -> list[RowIndex]:
        return [index_rows(rows, reader, self._options) for rows, reader in self._sources]

    @cached_property
    def _splits(self) -> dict[Split, RowIndex]:
        train, *separate = self._indices
        if separate:
            in_both = np.isin(train.questions, separate[0].questions)
            if count := int(in_both.sum()):
                label = self._sources[0][0].label
                log.warning("%s: %d questions are held out too: they do not train", label, count)
            return {"train": train.take(~in_both), "eval": separate[0]}
        held_out = train.questions < np.uint64(int(self._options.eval_frac * 2**64))
        return {"train": train.take(~held_out), "eval": train.take(held_out)}

    @cached_property
    def _held_out(self) -> npt.NDArray[np.uint64]:
        return np.unique(self._splits["eval"].questions)

    @cached_property
    def _by_id(self) -> list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]]:
        sorted_by_id = [index.take(np.argsort(index.ids)) for index in self._indices]
        return [(index.ids, index.numbers) for index in sorted_by_id]

    def _read(self, source: int, number: int) -> Prompt:
        rows, reader = self._sources[source]
        try:
            return reader.prompt(number, rows.read(number))
        except (BadRow, OSError) as error:
            raise TaskError(f"{rows.label} has changed: {rows.unit} {number}: {error}") from error
