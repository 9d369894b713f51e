"""The file of finished completions, and the seeds of those to come."""

from dataclasses import replace
from pathlib import Path

import pytest

from async_r1.config import Config
from async_r1.errors import ConfigError
from async_r1.metrics import read_rows
from async_r1.offline_items import Item, SampleLog, digest, read_prompts, write_prompts
from async_r1.offline_jobs import curate_items, eval_items
from async_r1.schema import build
from async_r1.tasks.answers import find_answer
from async_r1.tasks.protocol import Prompt

PROMPT = Prompt("a", "1 + 1 = ?", "2", 1)
ITEM = Item(prompt_id="a", kind="sample", index=0, temperature=1.0, max_new_tokens=9)


def row(index: int) -> dict[str, object]:
    return {"prompt_id": "a", "asked": digest(PROMPT), "kind": "sample", "index": index}


def test_what_was_written_is_done_and_a_cut_line_is_not(tmp_path: Path) -> None:
    path = tmp_path / "below" / "samples.jsonl"
    with SampleLog(path) as log:
        assert log.done == set()
        log.write(row(0))
        log.write(row(1))
    path.write_bytes(path.read_bytes() + b'{"prompt_id": "a", "ki')  # as a kill leaves it
    with SampleLog(path) as log:
        assert log.done == {("a", "sample", 0), ("a", "sample", 1)}
        log.write(row(2))
    assert read_rows(path) == [row(0), row(1), row(2)]


def test_a_file_without_a_whole_line_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text("{")
    with SampleLog(path) as log:
        log.write(row(0))
    assert read_rows(path) == [row(0)]


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    with SampleLog(path), pytest.raises(ConfigError, match="is being written by another process"):
        SampleLog(path)
    SampleLog(path).__exit__(None, None, None)


@pytest.mark.parametrize("changed", [{"text": "1 + 2 = ?"}, {"answer": "3"}])
def test_a_prompt_that_was_changed_is_refused(tmp_path: Path, changed: dict[str, str]) -> None:
    path = tmp_path / "samples.jsonl"
    new = Prompt("b", "2 + 2 = ?", "4", 1)
    with SampleLog(path) as log:
        log.write(row(0))
    with SampleLog(path) as log:
        log.check([PROMPT, new, replace(PROMPT, level=2)])  # a level changes no sample
        with pytest.raises(
            ConfigError, match=r"samples\.jsonl .* prompt 'a': it was changed since"
        ):
            log.check([new, replace(PROMPT, **changed)])


def test_every_completion_has_a_seed_of_its_own() -> None:
    items = [
        replace(ITEM, prompt_id=prompt, kind=kind, index=index)  # type: ignore[arg-type]
        for prompt in "abc"
        for kind in ("sample", "guess")
        for index in range(5)
    ]
    seeds = [item.seed(run) for item in items for run in (0, 1)]
    assert len(set(seeds)) == len(seeds)
    assert ITEM.seed(7) == replace(ITEM, max_new_tokens=1, temperature=0.5).seed(7)
    assert replace(ITEM, temperature=0.0).seed(7) is None


def test_prompts_are_read_as_they_were_written(tmp_path: Path) -> None:
    prompts = [Prompt("a", "1 + 1 = ?\nä", "2", 3), Prompt("b", "", "", 1)]
    write_prompts(tmp_path / "prompts.jsonl", prompts)
    assert read_prompts(tmp_path / "prompts.jsonl") == prompts
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.jsonl"]


def test_a_job_asks_for_each_completion_once() -> None:
    config = build(
        Config,
        {
            "task": {"max_new_tokens": 70},
            "evaluate": {"samples": 3, "temperature": 0.6},
            "curate": {"samples": 2, "guesses": 1, "guess_tokens": 9, "guess_prefix": "<answer>"},
        },
    )
    prompts = [Prompt("a", "x", "y", 1), Prompt("b", "x", "y", 1)]
    evals = list(eval_items(config, prompts))
    assert len({item.key for item in evals}) == len(evals) == 2 * 4
    assert {item.temperature for item in evals if item.kind == "sample"} == {0.6}
    assert {item.temperature for item in evals if item.kind == "greedy"} == {0.0}
    labels = list(curate_items(config, prompts))
    assert len({item.key for item in labels}) == len(labels) == 2 * 3
    shown = {(item.kind, item.max_new_tokens, item.prefix) for item in labels}
    assert shown == {("sample", 70, ""), ("guess", 9, "<answer>")}
    for place, opening in [
        ("tags", "<think></think><answer>"),
        ("boxed", "<think></think>\n\\boxed{"),
        ("text", "<think></think>\n"),
    ]:
        task = replace(config.task, options={"answer_from": place})
        curate = replace(config.curate, guess_prefix="")
        items = curate_items(replace(config, task=task, curate=curate), prompts)
        assert {item.prefix for item in items if item.kind == "guess"} == {opening}
        assert (
            find_answer(opening + "42" + {"tags": "</answer>", "boxed": "}"}.get(place, ""), place)
            == "42"
        )
    only_samples = replace(config, evaluate=replace(config.evaluate, greedy=False))
    assert {item.kind for item in eval_items(only_samples, prompts)} == {"sample"}
