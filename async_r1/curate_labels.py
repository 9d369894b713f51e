"""From the completions of `async_r1 curate` to one label for each prompt."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from async_r1.config_task import CurateConfig
from async_r1.eval_table import columns
from async_r1.formatting import percent
from async_r1.metrics import RowTail
from async_r1.offline_items import row_key
from async_r1.tasks.protocol import Prompt

_BAR = 40  # characters of the longest


def difficulty(num_right: int, num_samples: int, num_levels: int) -> int:
    """1 (easy) to `num_levels`: 1 + floor((1 - pass rate) * num_levels), at most num_levels.

    Levels are equal parts of the pass rate; one that is never solved has the highest.
    Example: of 10 samples and 5 levels 10 or 9 right is 1, 8 or 7 is 2, ..., 2, 1 or 0 is 5.
    """
    assert 0 <= num_right <= num_samples and num_samples > 0
    return min(num_levels, 1 + (num_samples - num_right) * num_levels // num_samples)


def label(
    options: CurateConfig, prompt: Prompt, rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """The label of a prompt from all rows of it (`offline_items.SampleLog`); None if no sample
    could be scored. What could not be scored is neither right nor wrong.

    Example: `{"prompt_id": "arithmetic/1+1", "prompt": "1 + 1 = ?", "answer": "2", "level": 1,
    "difficulty": 2, "pass_rate": 0.8, "samples": 10, "never_solved": false, "guessable": false,
    "guesses_right": 0, "mean_tokens": 31.5}`; `level` is the task's own.
    """
    samples = [row for row in rows if row["kind"] == "sample" and not row["error"]]
    guesses_right = sum(row["correct"] for row in rows if row["kind"] == "guess")
    if not samples:
        return None
    num_right = sum(row["correct"] for row in samples)
    return {
        "prompt_id": prompt.prompt_id,
        "prompt": prompt.text,
        "answer": prompt.answer,
        "level": prompt.level,
        "difficulty": difficulty(num_right, len(samples), options.num_levels),
        "pass_rate": num_right / len(samples),
        "samples": len(samples),
        "never_solved": num_right == 0,
        "guessable": guesses_right > 0,
        "guesses_right": guesses_right,
        "mean_tokens": sum(row["num_tokens"] for row in samples) / len(samples),
    }


class Labels:
    """Follows a growing samples file; a prompt has its label once it has all its completions."""

    def __init__(self, options: CurateConfig, prompts: Sequence[Prompt], samples: Path) -> None:
        self._options = options
        self._prompts = {prompt.prompt_id: prompt for prompt in prompts}
        self._tail = RowTail(samples)
        self._rows: dict[str, dict[tuple[str, str, int], dict[str, Any]]] = {}
        self._labels: dict[str, dict[str, Any]] = {}
        self.num_unscored = 0  # prompts none of whose samples could be scored: without a label

    @property
    def num_prompts(self) -> int:
        return len(self._prompts)

    def update(self) -> None:
        """Take the rows that came since the last call."""
        needed = self._options.samples + self._options.guesses
        for row in self._tail.read():
            prompt = self._prompts.get(row["prompt_id"])
            if prompt is None:  # of a larger prompt set, or of the other split
                continue
            rows = self._rows.setdefault(prompt.prompt_id, {})
            rows[row_key(row)] = row
            if len(rows) == needed:
                values = list(self._rows.pop(prompt.prompt_id).values())
                if found := label(self._options, prompt, values):
                    self._labels[prompt.prompt_id] = found
                else:
                    self.num_unscored += 1

    def write(self, out: Path) -> list[dict[str, Any]]:
        """Write and return the labels so far, in the task's order."""
        rows = [self._labels[name] for name in self._prompts if name in self._labels]
        temporary = out.with_name(f".{out.name}.{os.getpid()}")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
        temporary.replace(out)
        return rows


def label_table(options: CurateConfig, rows: Sequence[Mapping[str, Any]]) -> str:
    """What is printed: how many prompts there are of each difficulty, and which are of no use."""
    counts = Counter(row["difficulty"] for row in rows)
    most = max(counts.values())
    table = [["difficulty", "prompts", "share", "pass rate", "tokens", " " * _BAR]]
    for level in range(1, options.num_levels + 1):
        of_level = [row for row in rows if row["difficulty"] == level]
        rates = [row["pass_rate"] for row in of_level]
        tokens = [row["mean_tokens"] for row in of_level]
        table.append(
            [
                str(level),
                f"{counts[level]:,}",
                percent(counts[level] / len(rows)),
                f"{sum(rates) / len(rates):.2f}" if rates else "-",
                f"{sum(tokens) / len(tokens):.0f}" if tokens else "-",
                ("#" * round(_BAR * counts[level] / most)).ljust(_BAR),
            ]
        )
    lines = columns(table)
    always = sum(row["pass_rate"] == 1 for row in rows)
    lines += ["", f"always solved  {_of(always, rows)}"]
    lines.append(f"never solved   {_of(sum(row['never_solved'] for row in rows), rows)}")
    if options.guesses:
        lines.append(f"guessable      {_of(sum(row['guessable'] for row in rows), rows)}")
    return "\n".join(lines)


def _of(count: int, rows: Sequence[Mapping[str, Any]]) -> str:
    return f"{count:,} of {len(rows):,} ({percent(count / len(rows))})"
