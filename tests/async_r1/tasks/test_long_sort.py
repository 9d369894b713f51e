"""The task long_sort: its lists, the truth of its worked solutions, and how long they are."""

import hashlib
import random
import re

import numpy as np
import pytest

from async_r1.compose import compose
from async_r1.config_task import TaskConfig
from async_r1.errors import TaskError
from async_r1.tasks import Completion, load_task
from async_r1.tasks.long_sort import NUM_DIGITS, NUM_PASSES, num_passes
from async_r1.tasks.long_sort_solutions import blunt, careful
from async_r1.templates import extract_answer, is_well_formed

LEVELS = list(NUM_PASSES)


def task_of(**values):
    return load_task(TaskConfig(name="long_sort", **{"num_train": 300, "num_eval": 60, **values}))


def digits_of(text: str) -> list[int]:
    return [int(digit) for digit in text.split(", ")]


def num_tokens(completion: str) -> int:
    """Of the nano model: one per character and per tag, and the stop token."""
    return len(re.sub("</?(?:think|answer)>", "#", completion)) + 1


def held_out(digits: list[int]) -> bool:
    """The split as ids have had it since the cold start was trained: one list in ten."""
    digest = hashlib.blake2b(bytes(digits), digest_size=8).digest()
    return int.from_bytes(digest, "little") % 10 == 0


def swap_by_swap(digits: list[int]) -> list[list[int]]:
    """Plain bubble sort: the list after each pass, to the first pass without an exchange."""
    state, states, swapped = list(digits), [], True
    while swapped:
        swapped = False
        for i in range(len(state) - 1):
            if state[i] > state[i + 1]:
                state[i], state[i + 1] = state[i + 1], state[i]
                swapped = True
        states.append(list(state))
    return states


def errors_in_working(digits: list[int], text: str) -> list[str]:
    """Every pass checked against plain bubble sort, without the code that wrote it."""
    form = re.compile("<think>(.*)</think><answer>(.*)</answer>", re.DOTALL)
    thinking, answer = form.fullmatch(text).groups()
    lines, states = thinking.split("\n"), swap_by_swap(digits)
    errors, before = [], digits
    if len(lines) != len(states):
        errors.append(f"{len(lines)} passes, not {len(states)}")
    for line, after in zip(lines, states, strict=False):
        in_hand = [max(before[: i + 1]) for i in range(len(before))]
        exchanged = [d < hand for hand, d in zip(in_hand, before[1:], strict=False)] + [False]
        marks = ["!" if any(exchanged[: i + 1]) else "." for i in range(len(before))]
        triples = zip(in_hand, after, marks, strict=True)
        if line != "".join(f"{hand}{put}{mark}" for hand, put, mark in triples):
            errors.append(f"pass {line}")
        before = after
    return errors + ([] if digits_of(answer) == sorted(digits) else ["answer"])


# --- prompts


@pytest.mark.parametrize(
    "values, message",
    [
        ({"levels": [0]}, "levels"),
        ({"eval_levels": [6]}, "levels"),
        ({"num_train": 10**6}, "prompts"),
        ({"options": {"blunt_skil": 0.1}}, "did you mean blunt_skill"),
        ({"options": {"layout": "table"}}, "known: blunt_skill"),
        ({"options": {"blunt_skill": 2}}, "blunt_skill"),
        ({"options": {"blunt_skill": "high"}}, "blunt_skill"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(TaskError, match=message):
        task_of(**values)


def test_prompts_follow_from_the_configuration_alone():
    for split in ("train", "eval"):
        assert task_of(seed=3).prompts(split) == task_of(seed=3).prompts(split)
        assert task_of(seed=3).prompts(split) != task_of(seed=4).prompts(split)


def test_splits_share_no_question_under_any_seed():
    evals = {prompt.text for seed in (0, 1) for prompt in task_of(seed=seed).prompts("eval")}
    assert len(evals) == 120
    for seed in (0, 1):
        train = {prompt.text for prompt in task_of(seed=seed).prompts("train")}
        assert len(train) == 300 and train.isdisjoint(evals)
    rng = random.Random(0)
    drawn = [digits_of(task_of().draw(level, rng).text) for level in LEVELS for _ in range(40)]
    assert not any(held_out(digits) for digits in drawn)
    assert all(held_out(digits_of(text)) for text in evals)


def test_levels_take_turns_and_are_the_passes_that_bubble_sort_takes():
    levels = [1, 5, 1, 3]
    prompts = task_of(levels=levels, num_eval=8).prompts("train")
    assert [prompt.level for prompt in prompts] == levels * 75
    for prompt in prompts:
        digits = digits_of(prompt.text)
        assert len(digits) == NUM_DIGITS
        fewest, most = NUM_PASSES[prompt.level]
        assert fewest <= len(swap_by_swap(digits)) <= most
        assert prompt.answer == ", ".join(map(str, sorted(digits)))


def test_passes_are_counted_without_sorting():
    rng = random.Random(0)
    for _ in range(200):
        digits = [rng.randrange(10) for _ in range(rng.randint(1, 12))]
        assert num_passes(digits) == len(swap_by_swap(digits))


def test_an_id_holds_its_question():
    for prompt in task_of().prompts("train"):
        assert task_of(seed=9, num_train=1).get(prompt.prompt_id) == prompt
    known = task_of().prompts("train")[0].prompt_id
    sorted_list = "long_sort/" + "0" * NUM_DIGITS  # one pass: of no level
    for other in ("long_sort/", "arithmetic/1+2", known[:-1], known + "0", sorted_list):
        with pytest.raises(TaskError, match="no prompt"):
            task_of().get(other)


# --- solutions


def test_careful_solutions_are_right_in_every_token():
    task, rng = task_of(), random.Random(1)
    for level in LEVELS:
        for _ in range(20):
            prompt = task.draw(level, rng)
            text = task.demonstrate(prompt, "careful", rng)
            assert errors_in_working(digits_of(prompt.text), text) == []
            assert is_well_formed(text)
            assert num_tokens(text) == 85 * len(swap_by_swap(digits_of(prompt.text))) + 86
            assert task.score(prompt, Completion(text, num_tokens(text), False)) == 1.0


def test_the_check_of_the_working_finds_any_changed_character():
    digits = [3, 5, 2]
    text = careful(digits)
    assert errors_in_working(digits, text) == []
    for i, character in enumerate(text):
        if character in "0123456789.!":
            changed = text[:i] + ("7" if character != "7" else "8") + text[i + 1 :]
            assert errors_in_working(digits, changed), changed


def test_what_a_line_needs_stands_at_one_distance():
    """Places are copied over the same distance from the question, pass to pass, to the answer."""
    task, rng = task_of(), random.Random(2)
    prompt = task.draw(3, rng)
    digits = digits_of(prompt.text)
    text = prompt.text + "\n" + task.demonstrate(prompt, "careful", rng)
    tokens = re.findall(r"</?(?:think|answer)>|[\s\S]", text)
    distance = 3 * NUM_DIGITS + 1
    states = [digits, *swap_by_swap(digits), sorted(digits)]
    for number, state in enumerate(states):
        places = tokens[number * distance :: 3][:NUM_DIGITS]
        assert places == [str(digit) for digit in state]


def test_blunt_solutions_have_the_form_and_are_right_as_often_as_their_skill():
    digits, rng = [3, 1, 2, 0], random.Random(3)
    for skill, expected in [(0.0, 0), (1.0, 400), (0.8, 205)]:
        texts = [blunt(digits, rng, skill=skill) for _ in range(400)]
        assert all(is_well_formed(text) for text in texts)
        right = sum(extract_answer(text) == "0, 1, 2, 3" for text in texts)
        assert abs(right - expected) <= 40  # 0.8 ** 3 = 0.512, four standard deviations
    with pytest.raises(TaskError, match="style"):
        task_of().demonstrate(task_of().prompts("train")[0], "checked", rng)


def test_the_longest_hundredth_of_the_preset_has_over_two_thousand_tokens():
    """And all of it fits into the preset's limits."""
    config = compose(["experiment=nano_long", "task.num_train=1000"])
    task, rng = load_task(config.task), random.Random(4)
    prompts = task.prompts("train")
    lengths = [num_tokens(task.demonstrate(prompt, "careful", rng)) for prompt in prompts]
    assert np.percentile(lengths, 99) >= 2000
    assert np.median(lengths) < 600
    assert max(lengths) <= config.task.max_new_tokens
    assert max(lengths) + 3 * NUM_DIGITS <= config.model.max_length
    budget = config.actors.rollout_token_budget
    assert (np.asarray(lengths) > 3 * budget).mean() > 0.05  # suspended three times
