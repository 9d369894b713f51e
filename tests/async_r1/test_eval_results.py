"""The numbers of eval.json from completions made by hand."""

import random
from typing import Any

import pytest

from async_r1.config import Config
from async_r1.eval_results import lengths, results
from async_r1.eval_table import columns, eval_table
from async_r1.pass_at_k import pass_at_k, wilson
from async_r1.reflection import reflection
from async_r1.schema import build

CONFIG = build(
    Config,
    {
        "model": {"path": "models/tiny"},
        "evaluate": {"samples": 4, "k": [1, 4], "reflection_words": ["wait", "let me check"]},
    },
)


def row(prompt: str, level: int, kind: str, index: int, correct: bool, **more: Any) -> Any:
    return {
        "prompt_id": prompt,
        "level": level,
        "kind": kind,
        "index": index,
        "correct": correct,
        "rewards": {"format": 1.0, "task": float(correct)},
        "error": "",
        "num_tokens": 10,
        "truncated": False,
        "text": "fine",
        **more,
    }


def rows() -> list[Any]:
    made = []
    for prompt, level, greedy, right in (("a", 1, True, 4), ("b", 1, False, 1), ("c", 2, False, 0)):
        made.append(row(prompt, level, "greedy", 0, greedy))
        made += [row(prompt, level, "sample", index, index < right) for index in range(4)]
    made[0] |= {"num_tokens": 40, "text": "Wait, WAIT: awaiting"}
    made[-1] |= {"truncated": True, "rewards": {}, "error": "took more than 10 s"}
    return made


def test_accuracy_and_pass_at_k_overall_and_by_level() -> None:
    found = results(CONFIG, rows())
    assert found["overall"]["prompts"] == 3 and found["not_scored"] == 1
    assert found["overall"]["greedy"] == wilson(1, 3, 0.95).to_dict()
    expected = (1.0 + pass_at_k(4, 1, 4) + 0.0) / 3
    assert found["overall"]["pass@k"]["4"]["value"] == pytest.approx(expected)
    assert found["overall"]["pass@k"]["1"]["value"] == pytest.approx((1 + 0.25 + 0) / 3)
    assert found["levels"]["1"]["pass@k"]["1"]["value"] == pytest.approx(0.625)
    assert found["levels"]["2"]["greedy"]["value"] == 0
    interval = found["overall"]["pass@k"]["1"]
    assert interval["low"] < interval["value"] < interval["high"]


def test_results_do_not_depend_on_the_order_in_which_completions_ended() -> None:
    shuffled = rows()
    random.Random(1).shuffle(shuffled)
    assert shuffled != rows()
    assert results(CONFIG, shuffled) == results(CONFIG, rows())


def test_lengths_and_reflection_of_right_and_wrong_completions() -> None:
    found = results(CONFIG, rows())["completions"]
    assert found["greedy"]["length"]["correct"]["mean"] == 40
    assert found["greedy"]["length"]["wrong"]["mean"] == 10
    assert found["greedy"]["reflection"]["correct"]["per_text"] == 2
    assert found["greedy"]["reflection"]["all"]["share"] == pytest.approx(1 / 3)
    assert found["sample"]["length"]["all"]["truncated"] == pytest.approx(1 / 12)
    assert found["sample"]["well_formed"] == 1.0  # of those that were scored
    tokens = [row("a", 1, "sample", i, True, num_tokens=i, truncated=i > 90) for i in range(101)]
    assert lengths(tokens) == {
        "count": 101,
        "mean": 50,
        "median": 50,
        "p95": 95,
        "truncated": pytest.approx(10 / 101),
    }


def test_reflection_counts_whole_words_in_any_case() -> None:
    texts = ["Wait. wait, await; LET ME CHECK", "checking", "let me check: wait"]
    found = reflection(texts, ["wait", "let me check"])
    assert found["share"] == pytest.approx(2 / 3) and found["per_text"] == pytest.approx(5 / 3)
    assert found["words"]["wait"] == {"share": pytest.approx(2 / 3), "per_text": pytest.approx(1)}
    assert found["words"]["let me check"]["per_text"] == pytest.approx(2 / 3)
    assert reflection(["c++ c++17"], ["c++"])["per_text"] == 1
    assert reflection([], ["wait"])["share"] is None


def test_table_names_levels_and_what_was_not_scored() -> None:
    text = eval_table(results(CONFIG, rows()))
    lines = text.splitlines()
    assert lines[0] == "models/tiny on arithmetic, intervals at 95%"
    assert lines[2].split() == ["level", "prompts", "greedy", "pass@1", "pass@4"]
    assert [line.split()[0] for line in lines[3:6]] == ["1", "2", "all"]
    assert lines[5].split()[2] == "0.333"
    assert "not scored, and counted as wrong: 1" in text
    assert "greedy: 100 % well-formed, with wait 33 %" in text


def test_one_kind_alone_has_a_table_too() -> None:
    greedy = [row("a", 1, "greedy", 0, False)]
    text = eval_table(results(CONFIG, greedy))
    assert "pass@" not in text and "0.000 [0.000, 0.793]" in text
    samples = [row("a", 1, "sample", index, True) for index in range(4)]
    assert "greedy" not in eval_table(results(CONFIG, samples))


def test_columns_align() -> None:
    assert columns([["a", "b"], ["cc", "10"]]) == ["a    b", "cc  10"]
