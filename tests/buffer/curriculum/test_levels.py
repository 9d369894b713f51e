"""Labels come from a prompt sequence without making its prompts, where it knows them."""

import json
from pathlib import Path

import numpy as np
import pytest

from async_r1.config_task import TaskConfig
from async_r1.tasks import load_task
from async_r1.tasks.lazy import LazyPrompts
from async_r1.tasks.protocol import Prompt
from buffer.curriculum.levels import labels_of
from tests.buffer.fakes import make_prompt


def refuse(position: int) -> Prompt:
    raise AssertionError("made a prompt")


def test_prompts_are_not_made_for_their_levels() -> None:
    lazy = LazyPrompts(4, refuse, levels=lambda: np.asarray([3, 1, 2, 1]))
    assert labels_of(lazy).tolist() == [3, 1, 2, 1]
    assert labels_of(lazy[1:3]).tolist() == [1, 2]
    assert labels_of(lazy[::-1][:2]).tolist() == [1, 2]


def test_prompts_are_asked_where_nobody_else_knows() -> None:
    prompts = [make_prompt(i) for i in range(5)]
    assert labels_of(prompts).tolist() == [1, 2, 3, 1, 2]
    assert labels_of(LazyPrompts(5, lambda i: prompts[i])).tolist() == [1, 2, 3, 1, 2]


def test_a_file_knows_the_levels_of_the_prompts_in_use(tmp_path: Path) -> None:
    path, labels = tmp_path / "data.jsonl", tmp_path / "labels.jsonl"
    rows = [{"prompt": f"{i} + 1 = ?", "answer": str(i + 1), "level": i % 4} for i in range(40)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    config = TaskConfig(name="jsonl", num_train=9, num_eval=4, options={"path": str(path)})
    prompts = load_task(config).prompts("train")
    assert isinstance(prompts, LazyPrompts) and prompts.levels is not None
    assert labels_of(prompts).tolist() == [prompt.level for prompt in prompts]
    known = [{"prompt_id": prompt.prompt_id, "prompt": prompt.text, "difficulty": 1 + i % 3}
             for i, prompt in enumerate(prompts)]  # fmt: skip
    labels.write_text("\n".join(json.dumps(row) for row in known))
    labelled = load_task(
        TaskConfig(name="jsonl", num_eval=4, labels=str(labels), options={"path": str(path)})
    ).prompts("train")
    assert isinstance(labelled, LazyPrompts) and labelled.levels is not None
    assert labels_of(labelled).tolist() == [prompt.level for prompt in labelled]
    assert len(set(labels_of(labelled).tolist())) == 3


def test_a_generator_knows_the_levels_of_what_it_would_generate() -> None:
    pytest.importorskip("reasoning_gym")
    config = TaskConfig(name="reasoning_gym", levels=[0, 2, 1], num_train=7, num_eval=2)
    prompts = load_task(config).prompts("train")
    assert labels_of(prompts).tolist() == [0, 2, 1, 0, 2, 1, 0]
    assert labels_of(prompts).tolist() == [prompt.level for prompt in prompts]
