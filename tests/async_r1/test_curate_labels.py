"""Labels from completions: the formula as a table, and files that grow, stop and go on."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from async_r1.config import Config
from async_r1.config_dir import resolve_path
from async_r1.config_task import CurateConfig
from async_r1.curate import claim
from async_r1.curate_labels import Labels, difficulty, label_table
from async_r1.errors import ConfigError
from async_r1.metrics import read_rows
from async_r1.schema import build
from async_r1.tasks.protocol import Prompt

OPTIONS = CurateConfig(samples=4, guesses=2, num_levels=4)
PROMPTS = [Prompt(name, f"{name} = ?", "7", level) for name, level in (("a", 1), ("b", 3))]


def test_levels_are_equal_parts_of_the_pass_rate() -> None:
    assert [difficulty(right, 10, 5) for right in range(10, -1, -1)] == [
        *(1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5)
    ]
    assert [difficulty(right, 2, 5) for right in (2, 1, 0)] == [1, 3, 5]
    assert [difficulty(right, 3, 1) for right in range(4)] == [1] * 4
    for samples in range(1, 30):
        found = [difficulty(right, samples, 7) for right in range(samples + 1)]
        assert found == sorted(found, reverse=True) and found[0] == 7 and found[-1] == 1


def completions(prompt: str, right: Sequence[int], guesses: Sequence[int]) -> list[dict[str, Any]]:
    parts = (("sample", right), ("guess", guesses))
    return [
        {
            "prompt_id": prompt,
            "kind": kind,
            "index": index,
            "correct": value == 1,
            "error": "ValueError: no" if value < 0 else "",  # -1: it could not be scored
            "num_tokens": 10 * (index + 1),
        }
        for kind, values in parts
        for index, value in enumerate(values)
    ]


def append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_what_could_not_be_scored_is_neither_right_nor_wrong(tmp_path: Path) -> None:
    samples = tmp_path / "samples.jsonl"
    labels = Labels(OPTIONS, PROMPTS, samples)
    append(samples, completions("a", [1, -1, 0, -1], [0, 0]))
    append(samples, completions("b", [-1, -1, -1, -1], [1, 0]))
    labels.update()
    (row,) = labels.write(tmp_path / "labels.jsonl")
    assert (row["prompt_id"], row["pass_rate"], row["samples"]) == ("a", 0.5, 2)
    assert labels.num_unscored == 1


def test_a_prompt_is_labelled_when_all_its_completions_are_there(tmp_path: Path) -> None:
    samples, out = tmp_path / "samples.jsonl", tmp_path / "labels.jsonl"
    labels = Labels(OPTIONS, PROMPTS, samples)
    labels.update()  # before there is a file
    b = completions("b", [0, 0, 0, 0], [1, 0])
    append(samples, [*completions("other", [1] * 4, [1, 1]), *b[:-1]])
    append(samples, completions("a", [1, 0, 1, 1], [0, 0]))
    labels.update()
    assert [row["prompt_id"] for row in labels.write(out)] == ["a"]
    append(samples, b[-1:])
    labels.update()
    rows = labels.write(out)
    assert rows == read_rows(out)
    assert rows[0] == {
        "prompt_id": "a",
        "prompt": "a = ?",
        "answer": "7",
        "level": 1,
        "difficulty": 2,
        "pass_rate": 0.75,
        "samples": 4,
        "never_solved": False,
        "guessable": False,
        "guesses_right": 0,
        "mean_tokens": 25.0,
    }
    assert rows[1]["difficulty"] == 4 and rows[1]["never_solved"]
    assert rows[1]["guessable"] and rows[1]["guesses_right"] == 1 and rows[1]["pass_rate"] == 0


def test_table_counts_levels_and_prompts_of_no_use(tmp_path: Path) -> None:
    samples = tmp_path / "samples.jsonl"
    append(samples, completions("a", [1] * 4, [0, 1]) + completions("b", [0] * 4, [0, 0]))
    labels = Labels(OPTIONS, PROMPTS, samples)
    labels.update()
    lines = label_table(OPTIONS, labels.write(tmp_path / "out.jsonl")).splitlines()
    assert [line.split()[:4] for line in lines[1:5]] == [
        *(["1", "1", "50", "%"], ["2", "0", "0", "%"], ["3", "0", "0", "%"], ["4", "1", "50", "%"])
    ]
    assert lines[1].endswith("#" * 40) and "#" not in lines[2]
    assert lines[-3:] == [
        "always solved  1 of 2 (50 %)",
        "never solved   1 of 2 (50 %)",
        "guessable      1 of 2 (50 %)",
    ]


def config(**sections: Any) -> Config:
    model = {"path": resolve_path("configs:checkpoints/nano"), **sections.pop("model", {})}
    return build(Config, {"model": model, **sections})


@pytest.mark.parametrize(
    ("sections", "error"),
    [
        ({"curate": {"samples": 3}}, "curate.samples=10, now it is 3"),
        ({"curate": {"guess_prefix": "x"}}, "curate.guess_prefix="),
        ({"task": {"template": "r1_zero"}}, "task.template='plain', now it is 'r1_zero'"),
        ({"task": {"options": {"layout": "table"}}}, "task.options="),
        ({"seed": 1}, "seed=0, now it is 1"),
        ({"model": {"path": "Some/Other"}}, "model.weights="),
    ],
)
def test_labels_of_something_else_are_refused(
    tmp_path: Path, sections: dict[str, Any], error: str
) -> None:
    out = tmp_path / "deep" / "labels.jsonl"
    claim(config(), out)
    claim(config(), out)
    claim(config(task={"num_train": 5, "levels": [1]}, curate={"num_levels": 9}), out)
    with pytest.raises(ConfigError) as caught:
        claim(config(**sections), out)
    assert error in str(caught.value) and "choose another curate.out" in str(caught.value)


def test_a_file_of_another_origin_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "labels.jsonl"
    out.write_text("mine\n")
    with pytest.raises(ConfigError, match="is not of async_r1 curate"):
        claim(config(), out)
