"""Completions to sample outside of the training loop, and the file that keeps them."""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from async_r1.errors import ConfigError
from async_r1.metrics import read_rows
from async_r1.tasks.protocol import Prompt

Kind = Literal["greedy", "sample", "guess"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One completion to sample.

    Example: `Item(prompt_id="arithmetic/1+1", kind="sample", index=3, ...)` is the fourth sample.
    """

    prompt_id: str
    kind: Kind
    index: int  # among those of the prompt and kind
    temperature: float  # 0 is greedy
    max_new_tokens: int
    prefix: str = ""  # text that the completion is made to begin with

    @property
    def key(self) -> tuple[str, str, int]:
        """Unique in a job."""
        return self.prompt_id, self.kind, self.index

    def seed(self, run_seed: int) -> int | None:
        """Of this completion, whatever is sampled beside it; None if it is greedy."""
        if self.temperature == 0:
            return None
        name = f"{run_seed} {self.kind} {self.index} {self.prompt_id}"
        digest = hashlib.blake2b(name.encode(), digest_size=6).digest()
        return int.from_bytes(digest, "little")


class SampleLog:
    """Rows of finished completions, one JSON object a line, appended as they come.

    A row has `prompt_id, asked, kind, index, level, correct, rewards, error, num_tokens, truncated,
    text`. `asked` is `digest` of the prompt: one that was changed since is not what was sampled.
    `correct` says that the task reward is full (1). A line that a kill cut is taken off; only one
    process writes at a time.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            ConfigError: another process writes the file.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise ConfigError(f"{path} is being written by another process") from None
        self.path = path
        self.done: set[tuple[str, str, int]] = set()
        self._asked: dict[str, str] = {}
        for row in read_rows(path):
            self.done.add(row_key(row))
            self._asked[row["prompt_id"]] = row["asked"]
        self._file.seek(0)
        whole = self._file.read().rfind(b"\n") + 1
        self._file.truncate(whole)

    def check(self, prompts: Sequence[Prompt]) -> None:
        """
        Raises:
            ConfigError: a prompt is not what it was when it was sampled.
        """
        for prompt in prompts:
            if self._asked.get(prompt.prompt_id, digest(prompt)) != digest(prompt):
                raise ConfigError(
                    f"{self.path} has samples of another text or answer of prompt "
                    f"{prompt.prompt_id!r}: it was changed since; choose another curate.out"
                )

    def write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()


def write_prompts(path: Path, prompts: Sequence[Prompt]) -> None:
    """Write down the prompts of a job, for whoever reads its rows; a reader sees all or no file."""
    rows = [
        {name: getattr(prompt, name) for name in ("prompt_id", "text", "answer", "level")}
        for prompt in prompts
    ]
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
    temporary.replace(path)


def read_prompts(path: Path) -> list[Prompt]:
    """What `write_prompts` wrote."""
    return [Prompt(**row) for row in read_rows(path)]


def digest(prompt: Prompt) -> str:
    """Of what is asked and what is right."""
    said = json.dumps([prompt.text, prompt.answer])
    return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()


def row_key(row: Mapping[str, Any]) -> tuple[str, str, int]:
    """`Item.key` of a row."""
    return row["prompt_id"], row["kind"], row["index"]
