"""Sampling of many completions: which are submitted, how they are scored, and with which seeds."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from actors.engine import SamplingEngine, SamplingRequest, TokenChunk
from actors.offline import sample
from actors.scoring import Scorer
from async_r1.config import Config
from async_r1.errors import ConfigError
from async_r1.offline_items import Item
from async_r1.schema import build
from async_r1.tasks import load_task
from async_r1.types import FinishReason
from learner.nano import nano_tokenizer

TOKENIZER = nano_tokenizer()
STOP = TOKENIZER.eos_token_id
CONFIG = build(
    Config,
    {
        "model": {"max_length": 80},
        "task": {"levels": [1], "num_train": 8, "num_eval": 8},
        "actors": {"max_concurrent": 3},
    },
)
TASK = load_task(CONFIG.task)
PROMPTS = TASK.prompts("train")


def item(index: int = 0, **more: Any) -> Item:
    values = {"kind": "sample", "index": index, "temperature": 1.0, "max_new_tokens": 50}
    return Item(prompt_id=PROMPTS[index % 8].prompt_id, **(values | more))


@dataclass
class Answering:
    """An engine whose completions take 1, 2, 3, 1, ... steps, two tokens a step."""

    texts: dict[int, str]
    requests: list[SamplingRequest] = field(default_factory=list)
    most: int = 0

    def __post_init__(self) -> None:
        self._left: dict[int, list[int]] = {}
        self.finish = FinishReason.STOP

    @property
    def num_in_flight(self) -> int:
        return len(self._left)

    def submit(self, request: SamplingRequest) -> None:
        self.requests.append(request)
        text = TOKENIZER.encode(self.texts[request.key], add_special_tokens=False)
        self._left[request.key] = [*text, STOP]
        self.most = max(self.most, len(self._left))

    def step(self) -> list[TokenChunk]:
        chunks = []
        for key in list(self._left):
            size = 2 + key % 3
            now, self._left[key] = self._left[key][:size], self._left[key][size:]
            reason = None if self._left[key] else self.finish
            if reason is not None:
                del self._left[key]
            chunks.append(TokenChunk(key, now, [0.0] * len(now), 0, 0, reason))
        return chunks


def answers(items: list[Item], wrong: tuple[int, ...] = ()) -> dict[int, str]:
    made = {}
    for key, one in enumerate(items):
        answer = "x" if key in wrong else TASK.get(one.prompt_id).answer
        made[key] = f"<think>{'.' * key}</think><answer>{answer}</answer>"
    return made


def rows_of(
    engine: Any, items: list[Item], config: Config = CONFIG, tokenizer: Any = TOKENIZER
) -> list[dict[str, Any]]:
    scorer = Scorer(config, TASK, tokenizer, [STOP])
    try:
        return list(sample(config, engine, scorer, TASK, items))
    finally:
        scorer.close()


def test_every_completion_is_sampled_once_and_scored_as_its_own() -> None:
    items = [item(index) for index in range(8)]
    texts = answers(items, wrong=(2, 5))
    engine = Answering(texts)
    rows = rows_of(engine, items)
    assert engine.most == 3
    assert sorted(row["index"] for row in rows) == list(range(8))
    assert [row["index"] for row in rows] != list(range(8))  # as they end
    for row in rows:
        key = row["index"]
        assert row["text"] == texts[key] and row["prompt_id"] == PROMPTS[key].prompt_id
        assert row["num_tokens"] == len(TOKENIZER.encode(texts[key])) + 1
        assert row["correct"] is (key not in (2, 5)) and row["rewards"]["task"] == row["correct"]
        assert (row["level"], row["truncated"], row["error"]) == (1, False, "")


def test_a_cut_completion_is_wrong_and_says_so() -> None:
    engine = Answering(answers([item()]))
    engine.finish = FinishReason.LENGTH
    (row,) = rows_of(engine, [item()])
    assert row["truncated"] and not row["correct"]


def test_a_guess_is_cut_on_purpose_and_judged_by_what_it_says() -> None:
    guess = item(kind="guess", prefix="<think></think><answer>", max_new_tokens=9)
    engine = Answering([PROMPTS[0].answer + "</answer> and so on"])
    engine.finish = FinishReason.LENGTH
    (row,) = rows_of(engine, [guess])
    assert row["truncated"] and row["correct"]


def test_requests_leave_the_prompt_its_room_and_follow_their_prefix() -> None:
    guess = item(kind="guess", prefix="<think></think><answer>", max_new_tokens=9)
    items = [item(), guess, item(temperature=0.0, kind="greedy")]
    texts = answers(items)
    texts[1] = PROMPTS[0].answer + "</answer>"
    engine = Answering(texts)
    rows = rows_of(engine, items)
    question = PROMPTS[0].text + "\n"
    shown = [TOKENIZER.decode(request.token_ids) for request in engine.requests]
    assert shown == [question, question + guess.prefix, question]
    room = 80 - len(engine.requests[0].token_ids)
    assert [request.max_new_tokens for request in engine.requests] == [min(50, room), 9, 50]
    assert [request.seed for request in engine.requests] == [one.seed(0) for one in items]
    (guessed,) = (row for row in rows if row["kind"] == "guess")
    assert guessed["correct"] and guessed["text"] == guess.prefix + texts[1]


def test_a_prefix_that_leaves_no_room_is_named() -> None:
    engine = Answering({})
    error = f"the length of prompt {PROMPTS[0].prompt_id} under task.template=plain"
    with pytest.raises(ConfigError, match=re.escape(error)):
        rows_of(engine, [item(prefix="x" * 80)])


def test_the_opening_that_a_chat_template_writes_belongs_to_the_completion() -> None:
    tokenizer = nano_tokenizer()
    tokenizer.chat_template = "Q: {{ messages[0].content + ' A: <think>\\n' }}"
    config = replace(CONFIG, task=replace(CONFIG.task, template="chat"))
    guess = item(1, kind="guess", prefix="<think></think><answer>")
    engine = Answering(
        {
            0: f"so</think><answer>{PROMPTS[0].answer}</answer>",
            1: f"{PROMPTS[1].answer}</answer>",
        }
    )
    rows = rows_of(engine, [item(0), guess], config, tokenizer)
    shown = [tokenizer.decode(request.token_ids) for request in engine.requests]
    assert shown[0] == f"Q: {PROMPTS[0].text} A: <think>\n"
    assert shown[1] == f"Q: {PROMPTS[1].text} A: <think>\n</think><answer>"
    assert [row["rewards"]["format"] for row in rows] == [1, 1]
    assert [row["correct"] for row in rows] == [True, True]
    assert {row["text"].partition("\n")[0] for row in rows} == {"<think>"}


@pytest.mark.slow
def test_a_completion_does_not_depend_on_its_neighbours(
    engine: SamplingEngine, nano_dir: Path, engine_values: dict[str, Any]
) -> None:
    """Its seed is its own: alone, or among others in another order, it is the same text."""
    config = build(Config, {**engine_values, "task": {"levels": [1], "num_train": 8}})
    items = [item(index, max_new_tokens=12, temperature=0.8) for index in range(6)]
    together = {row["index"]: row["text"] for row in rows_of(engine, items, config)}
    backwards = {row["index"]: row["text"] for row in rows_of(engine, items[::-1], config)}
    alone = {i: rows_of(engine, [items[i]], config)[0]["text"] for i in range(6)}
    assert together == backwards == alone and len(set(alone.values())) == 6
    other = replace(config, seed=1)
    assert rows_of(engine, items[:1], other)[0]["text"] != alone[0]
