"""Scoring: at once for rules, in processes that can be killed for what may hang or crash."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from actors import score_pool
from actors.scoring import Scored, Scorer
from async_r1.channels import wait_any
from async_r1.config import Config
from async_r1.errors import DeadlineError
from async_r1.schema import build
from async_r1.tasks import load_task
from async_r1.tasks.protocol import Split
from async_r1.types import FinishReason

FUNCTIONS = Path(__file__).with_name("reward_functions.py")
PROMPT_ID = "arithmetic/2395+972"
STOP = 127
SPLITS: tuple[Split, ...] = ("train", "eval")


class Characters:
    """A tokenizer of one token per character."""

    bos_token_id = None

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return [ord(character) for character in text]

    def decode(self, token_ids: list[int], skip_special_tokens: bool = False) -> str:
        return "".join(map(chr, token_ids))


def make_scorer(function: str = "", mode: str = "async", **reward: Any) -> Scorer:
    spec = function if ":" in function else f"{FUNCTIONS}:{function}"
    values = {"function": spec if function else "", **reward}
    config = build(Config, {"reward": values, "mode": mode})
    return Scorer(config, load_task(config.task), Characters(), [STOP])


def submit(scorer: Scorer, key: Any, text: str, reason: FinishReason = FinishReason.STOP) -> None:
    ids = np.asarray([*map(ord, text), STOP], np.int32)
    scorer.submit(key, prompt_id=PROMPT_ID, token_ids=ids, finish_reason=reason)


def until(condition: Callable[[], bool], deadline_s: float = 20.0) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def scorers() -> Iterator[list[Scorer]]:
    made: list[Scorer] = []
    yield made
    for scorer in made:
        scorer.close()


@pytest.fixture
def scorer(scorers: list[Scorer]) -> Scorer:
    scorers.append(make_scorer("behave", timeout_s=1.0))
    return scorers[0]


def pool_pids(scorer: Scorer) -> list[int]:
    assert scorer._pool is not None
    return scorer._pool.pids


def test_rules_are_scored_at_once_and_start_no_process() -> None:
    scorer = make_scorer()
    submit(scorer, 5, "<think>a</think><answer>3367</answer>")
    submit(scorer, 6, "<think>a</think><answer>3367</answer>", FinishReason.LENGTH)
    first, second = scorer.finished()
    assert first.rewards == {"accuracy": 1.0, "format": 1.0, "task": 1.0, "total": 1.1}
    assert first == Scored(5, "<think>a</think><answer>3367</answer>", first.rewards)
    assert set(second.rewards.values()) == {0.0} and not second.error
    assert scorer._pool is None and scorer.fds == [] and scorer.finished() == []
    assert psutil.Process().children() == []


def test_what_a_function_returns(scorer: Scorer) -> None:
    words = ["plain", "bool", "int", "mapping"]
    for word in words:
        submit(scorer, word, word)
    rewards = {scored.key: scored.rewards for scored in scorer.wait(30)}
    form = {"format": 0.0}
    assert rewards["plain"] == {"accuracy": 1.0, **form, "task": 1.0, "total": 1.0}
    assert rewards["bool"] == {"accuracy": 1.0, **form, "task": 1.0, "total": 1.0}
    assert rewards["int"] == {"accuracy": 2.0, **form, "task": 2.0, "total": 2.0}
    extras = {"digits": 3.0, "right": 1.0}
    assert rewards["mapping"] == {"accuracy": 0.5, **form, "task": 0.5, "total": 0.5, **extras}
    assert len(pool_pids(scorer)) == 1 and scorer.num_replaced == 0


BAD = {
    "raise": "LookupError: no such answer (",
    "quit": "SystemExit: enough (",
    "none": "TypeError: accuracy must be a number, got None (",
    "text": "TypeError: accuracy must be a number, got '1.0' (",
    "nan": "ValueError: accuracy must be finite, got nan (",
    "inf": "ValueError: accuracy must be finite, got -inf (",
    "huge": "ValueError: accuracy must be finite, got 1e+300 (",
    "empty": "TypeError: reward.function returned a mapping without 'score': [] (",
    "taken": "ValueError: 'format' is a term of async_r1: give yours another name (",
    "bad_extra": "ValueError: digits must be finite, got nan (",
    "hang": "took more than 1 s",
    "exit": "ProcessDied: the scoring process ended: exit code 7",
    "segfault": "ProcessDied: the scoring process ended: killed by SIGSEGV",
    "killed": "ProcessDied: the scoring process ended: killed by SIGKILL",
}


def test_what_a_function_does_wrong_is_said_of_its_rollout_alone(scorer: Scorer) -> None:
    """Each bad completion between good ones: one line for it, and the neighbours are scored."""
    words = [word for bad in BAD for word in (bad, "fine")]
    for i, word in enumerate(words):
        submit(scorer, i, word)
    scored = {result.key: result for result in scorer.wait(60)}
    assert sorted(scored) == list(range(len(words)))
    for i, word in enumerate(words):
        result = scored[i]
        assert result.text == word
        if word == "fine":
            assert result.rewards["total"] == 1.0 and result.error == ""
        else:
            assert result.error.startswith(BAD[word]), result.error
            assert result.rewards == {} and "\n" not in result.error
    lines = FUNCTIONS.read_text().splitlines()
    where = 1 + next(i for i, line in enumerate(lines) if "raise LookupError" in line)
    assert scored[0].error.endswith(f"({FUNCTIONS}:{where})")
    assert scorer.num_replaced == 4  # hang, exit, segfault, killed


def test_a_process_that_stops_in_mid_answer_is_replaced(
    scorers: list[Scorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_pool, "_MESSAGE_S", 1)
    scorers.append(make_scorer("behave", timeout_s=60.0))
    for word in ("fine", "stuck", "fine too"):
        submit(scorers[0], word, word)
    scored = {result.key: result for result in scorers[0].wait(30)}
    assert scored["stuck"].error == "ProcessDied: the scoring process stopped in mid-answer"
    assert scored["fine"].rewards == scored["fine too"].rewards != {}
    assert scorers[0].num_replaced == 1


def test_arguments_options_and_coroutines(scorers: list[Scorer]) -> None:
    scorers += [make_scorer("seen"), make_scorer("later")]
    scorers.append(make_scorer("behave", function_options={"unit": 4.0}))
    for scorer in scorers:
        submit(scorer, 0, "ab", FinishReason.LENGTH)
    (seen,), (later,), (options,) = (scorer.wait(30) for scorer in scorers)
    assert seen.error == "" and seen.rewards["level"] == 1.0
    assert seen.rewards["num_tokens"] == 3.0 and seen.rewards["truncated"] == 1.0
    assert later.rewards["task"] == 0.25 and options.rewards["task"] == 4.0


def test_a_function_that_is_gone_is_said_of_every_rollout(
    scorers: list[Scorer], tmp_path: Path
) -> None:
    scorer = make_scorer(f"{tmp_path}/gone.py:f")
    scorers.append(scorer)
    for i in range(3):
        submit(scorer, i, "x")
    results = scorer.wait(30)
    assert len(results) == 3 and all("ConfigError: reward.function" in r.error for r in results)


def test_finished_never_waits_and_the_descriptor_wakes(scorer: Scorer) -> None:
    submit(scorer, 0, "warm")
    scorer.wait(30)
    submit(scorer, 1, "slow")
    assert scorer.finished() == [] and scorer.num_pending == 1
    started = time.monotonic()
    wait_any([], 20.0, scorer.fds)
    assert 0.2 < time.monotonic() - started < 5.0
    (result,) = scorer.finished()
    assert result.key == 1 and scorer.num_pending == 0
    assert scorer.due_s() == float("inf")


@pytest.mark.slow
def test_in_sync_mode_results_come_in_the_order_of_submission(scorers: list[Scorer]) -> None:
    order = {}
    for mode in ("sync", "async"):
        scorer = make_scorer("behave", mode=mode, workers=2)
        scorers.append(scorer)
        for key in ("warm", "warm too", "warm again"):
            submit(scorer, key, "slow")
        scorer.wait(30)
        assert len(pool_pids(scorer)) == 2
        until(lambda scorer=scorer: scorer.finished() == [] and _all_ready(scorer))
        for key in ("slow", "a", "b"):
            submit(scorer, key, key)
        order[mode] = [result.key for result in scorer.wait(30)]
    assert order["sync"] == ["slow", "a", "b"]
    assert order["async"][0] == "a"


@pytest.mark.slow
def test_mathematics_is_compared_in_a_process_and_explosions_are_killed(
    scorers: list[Scorer], tmp_path: Path
) -> None:
    rows = [{"prompt": f"{i}?", "answer": answer} for i, answer in enumerate(["1/2", "2", "3"])]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {"name": "jsonl", "num_eval": 1,
            "options": {"path": str(tmp_path / "rows.jsonl"), "answer": "math"}}  # fmt: skip
    config = build(Config, {"reward": {"timeout_s": 2.0}, "task": task})
    scorer = Scorer(config, load_task(config.task), Characters(), [STOP])
    scorers.append(scorer)
    prompts = {p.answer: p.prompt_id for split in SPLITS for p in scorer._task.prompts(split)}
    asked = [("1/2", "0.5"), ("2", "9^{9^{9}}"), ("3", "4")]
    for key, (gold, answer) in enumerate(asked):
        text = f"<think>a</think><answer>{answer}</answer>"
        ids = np.asarray([*map(ord, text), STOP], np.int32)
        scorer.submit(key, prompt_id=prompts[gold], token_ids=ids, finish_reason=FinishReason.STOP)
    results = {result.key: result for result in scorer.wait(60)}
    assert results[0].rewards["task"] == 1.0 and results[2].rewards["task"] == 0.0
    assert results[1].error == "took more than 2 s"  # 9^(9^9) has 370 million digits


def test_a_deadline_names_what_to_change(scorer: Scorer) -> None:
    submit(scorer, 0, "hang")
    with pytest.raises(DeadlineError, match=r"1 completions .* reward\.workers"):
        scorer.wait(0.2)


def test_an_idle_process_that_dies_is_replaced(scorer: Scorer) -> None:
    submit(scorer, 0, "fine")
    scorer.wait(30)
    (pid,) = pool_pids(scorer)
    os.kill(pid, signal.SIGKILL)
    wait_any([], 10.0, scorer.fds)
    assert scorer.finished() == []
    submit(scorer, 1, "fine")
    (result,) = scorer.wait(30)
    assert result.rewards["total"] == 1.0 and pool_pids(scorer) != [pid]


def test_a_long_completion_does_not_block(scorer: Scorer) -> None:
    """Larger than any socket's buffer, while the process is busy."""
    submit(scorer, 0, "slow")
    started = time.monotonic()
    submit(scorer, 1, "fine " * 1_000_000)
    submit(scorer, 2, "fine")
    assert time.monotonic() - started < 5.0
    assert [result.error for result in scorer.wait(30)] == ["", "", ""]


def test_close_ends_the_processes_and_what_they_started(scorers: list[Scorer]) -> None:
    scorer = make_scorer("behave", workers=2)
    scorers.append(scorer)
    submit(scorer, 0, "child")
    submit(scorer, 1, "hang")
    submit(scorer, 2, "hang")
    me = psutil.Process()
    until(lambda: scorer.finished() == [] and any(_is_sleep(c) for c in me.children(True)))
    processes = me.children(recursive=True)
    assert len(processes) == 3
    scorer.close()
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert not alive


def _all_ready(scorer: Scorer) -> bool:
    assert scorer._pool is not None
    return all(worker.ready for worker in scorer._pool._workers)


def _is_sleep(process: psutil.Process) -> bool:
    try:
        return process.name() == "sleep"
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("word", ["fine", "hang"])
def test_the_processes_of_a_killed_actor_end(word: str) -> None:
    """Idle ones at the end of their socket, busy ones by the kernel."""
    code = (
        "import sys, time; from tests.actors.test_scoring import make_scorer, submit\n"
        "scorer = make_scorer('behave'); submit(scorer, 0, 'fine'); scorer.wait(60)\n"
        f"submit(scorer, 1, {word!r}); print(*scorer._pool.pids, flush=True); time.sleep(1000)\n"
    )
    root = Path(__file__).parents[2]
    actor = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root
    )
    try:
        assert actor.stdout is not None
        worker = psutil.Process(int(actor.stdout.readline()))
        assert worker.is_running()
        actor.kill()
        worker.wait(timeout=10)
    finally:
        actor.kill()
        actor.communicate()
