"""Tasks: the registry, the prompts of arithmetic, and the truth of its worked solutions."""

import hashlib
import itertools
import random
import re

import pytest

from async_r1.coldstart import examples
from async_r1.config import SftConfig, SftPhase
from async_r1.config_task import TaskConfig
from async_r1.errors import ConfigError, TaskError
from async_r1.tasks import Completion, load_task
from async_r1.tasks.arithmetic import Arithmetic
from async_r1.tasks.arithmetic_solutions import CAREFUL_PREFIX, LINE_WIDTH, careful, column_sums
from async_r1.tasks.drawn import MAX_PROMPTS
from async_r1.templates import extract_answer, is_well_formed


def task_of(**values):
    return load_task(TaskConfig(**{"num_train": 500, "num_eval": 100, **values}))


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def errors_in_working(text: str) -> list[str]:
    """Every line of a careful solution re-checked, without the code that wrote it."""
    thinking, answer = re.fullmatch(
        r"<think>\n(.*)</think><answer>(\d+)</answer>", text, re.DOTALL
    ).groups()
    errors, total = [], 0
    for line in thinking.split("\n"):
        term, sums = re.fullmatch(r" *(\d+):((?:\d\d)+)", line).groups()
        pairs = [int(sums[i : i + 2]) for i in range(0, len(sums), 2)]
        carry = 0
        for place, pair in enumerate(pairs):
            digits = [int(str(n).zfill(len(pairs))[-1 - place]) for n in (total, int(term))]
            if pair != sum(digits) + carry:
                errors.append(f"column {place} of {line}")
            carry = pair // 10
        total += int(term)
        if sum(pair % 10 * 10**place for place, pair in enumerate(pairs)) != total:
            errors.append(f"total of {line}")
    return errors + ([] if int(answer) == total else ["answer"])


# --- registry


def test_unknown_task_names_the_nearest():
    with pytest.raises(TaskError, match="arithmetic"):
        task_of(name="aritmetic")
    with pytest.raises(TaskError, match="known: arithmetic"):
        task_of(name="chess")


@pytest.mark.parametrize(
    "values, message",
    [
        ({"levels": [0]}, "levels"),
        ({"eval_levels": [99]}, "levels"),
        ({"num_train": MAX_PROMPTS + 1}, "prompts"),
        ({"options": {"layuot": "table"}}, "did you mean layout"),
        ({"options": {"layout": "grid"}}, "layout"),
        ({"options": {"blunt_skill": 2}}, "blunt_skill"),
        ({"options": {"blunt_skill": "high"}}, "blunt_skill"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(TaskError, match=message):
        task_of(**values)


# --- prompts


def test_prompts_follow_from_the_configuration_alone():
    first, again = task_of(seed=3), task_of(seed=3)
    for split in ("train", "eval"):
        assert first.prompts(split) == again.prompts(split)
        assert first.prompts(split) != task_of(seed=4).prompts(split)


def test_splits_share_no_id_and_no_question_under_any_seed():
    held_out = {tuple(sorted(numbers(p.text))) for p in task_of(seed=0).prompts("eval")}
    for seed in (0, 1):
        train = task_of(seed=seed).prompts("train")
        assert len({p.prompt_id for p in train}) == len({p.text for p in train}) == 500
        assert held_out.isdisjoint(tuple(sorted(numbers(p.text))) for p in train)


def test_a_tenth_is_held_out():
    """Of 4000 uniform questions; sd is 0.005. Which ones must never change: the cold start that is
    shipped has learned from the others."""
    task, rng = task_of(levels=[1], num_train=1, num_eval=1), random.Random(0)
    eval_of = {p.prompt_id for p in task_of(levels=[1], num_eval=20000).prompts("eval")}
    assert not eval_of & {task.draw(1, rng).prompt_id for _ in range(4000)}
    sums = [(rng.randrange(1000, 5000), rng.randrange(100, 1000)) for _ in range(4000)]
    held_out = [task.held_out(f"arithmetic/{a}+{b}") for a, b in sums]
    assert 0.08 < sum(held_out) / 4000 < 0.12
    for terms, out in zip(sums, held_out, strict=True):
        digest = hashlib.blake2b(repr(sorted(terms)).encode(), digest_size=8).digest()
        assert out == (int.from_bytes(digest, "little") % 10 == 0)


@pytest.mark.parametrize("layout", ["plain", "table"])
@pytest.mark.parametrize("split", ["train", "eval"])
def test_answers_levels_and_ids(layout, split):
    task = task_of(options={"layout": layout})
    for prompt in task.prompts(split):
        opening, *added = numbers(prompt.text)
        assert prompt.answer == str(opening + sum(added))
        assert 1000 <= opening < 5000
        digits = [len(str(number)) for number in added]
        expected = {1: [3], 3: [3] * 2, 4: [3] * 3, 5: [3] * 4}
        if prompt.level == 2:
            assert 2 <= len(digits) <= 4 and sum(digits) <= 6 and digits != [3, 3]
        else:
            assert digits == expected[prompt.level]
        assert task.get(prompt.prompt_id) == prompt
        assert task_of(seed=9, options={"layout": layout}).get(prompt.prompt_id) == prompt


def test_levels_take_turns_and_eval_has_its_own():
    task = task_of(levels=[1, 3], eval_levels=[5], num_train=6)
    assert [p.level for p in task.prompts("train")] == [1, 3] * 3
    assert {p.level for p in task.prompts("eval")} == {5}


@pytest.mark.parametrize(
    "prompt_id",
    [
        "",
        "2395+972",
        "arithmetic/",
        "arithmetic/2395",
        "arithmetic/2395+972=",
        "arithmetic/2395++972",
        "arithmetic/2395+0972",
        "arithmetic/2395+" + "9" * 5000,
        "arithmetic/2395+97-2",
        "arithmetic/239+972",
        "arithmetic/5000+972",
        "arithmetic/2395+1972",
        "arithmetic/2395+97",
        "arithmetic/2395+972+991+9",
        "arithmetic/2395+1+1+1+1+1",
        "arithmetic/\uff12395+972",
        "arithmetic/arithmetic/2395+972",
        "countdown/2395+972",
    ],
)
def test_unknown_ids_are_refused(prompt_id):
    with pytest.raises(ValueError, match="no prompt"):
        task_of().get(prompt_id)


def test_table_puts_every_number_at_its_place():
    for prompt in task_of(options={"layout": "table"}).prompts("train"):
        assert len(prompt.text) == 5 * LINE_WIDTH
        cells = [prompt.text[i : i + LINE_WIDTH] for i in range(0, 5 * LINE_WIDTH, LINE_WIDTH)]
        found = [int(cell[:4]) for cell in cells if cell.strip()]
        assert found == numbers(prompt.prompt_id)


@pytest.mark.parametrize(
    "answer, accuracy",
    [
        ("3367", 1.0),
        (" 3367\n", 1.0),
        ("03367", 0.0),
        ("+3367", 0.0),
        ("3,367", 0.0),
        ("3367.0", 0.0),
        ("33 67", 0.0),
        ("\uff13\uff13\uff16\uff17", 0.0),
        ("3368", 0.0),
        ("", 0.0),
    ],
)
def test_score_is_exact_match(answer, accuracy):
    task = task_of()
    prompt = task.get("arithmetic/2395+972")
    completion = Completion(f"<think></think><answer>{answer}</answer>", 9, truncated=False)
    assert task.score(prompt, completion) == accuracy


# --- demonstrations


def test_the_checker_of_workings_can_fail():
    right = careful([2395, 972, 153])
    assert errors_in_working(right) == []
    for old, new in [("07161303", "07151303"), ("3520", "3521"), (" 972", " 971")]:
        assert errors_in_working(right.replace(old, new))


def test_column_sums_by_hand():
    assert column_sums(2395, 972) == [7, 16, 13, 3]
    assert column_sums(0, 5) == [5, 0, 0, 0]
    assert column_sums(9, 1) == [10, 1, 0, 0]


@pytest.mark.parametrize("level", Arithmetic.levels)
def test_careful_solutions_are_right_in_every_step(level):
    task, rng = task_of(), random.Random(level)
    for _ in range(300):
        prompt = task.draw(level, rng)
        text = task.demonstrate(prompt, "careful", rng)
        assert errors_in_working(text) == []
        assert extract_answer(text) == prompt.answer
        lines = text.removeprefix(CAREFUL_PREFIX).partition("</think>")[0].split("\n")
        assert [int(line[:4]) for line in lines] == numbers(prompt.text)
        assert {len(line) + 1 for line in lines} == {LINE_WIDTH}


def test_checked_solutions_do_the_working_twice():
    task, rng = task_of(), random.Random(0)
    prompt = task.draw(4, rng)
    once = task.demonstrate(prompt, "careful", rng)
    twice = task.demonstrate(prompt, "checked", rng)
    working = once.removeprefix(CAREFUL_PREFIX).partition("</think>")[0]
    assert twice == once.replace(working, f"{working}\n{working}")


@pytest.mark.parametrize("style", ["blunt", "careful", "checked"])
def test_styles_have_the_format_and_tell_themselves_apart(style):
    task, rng = task_of(), random.Random(0)
    for level in Arithmetic.levels:
        prompt = task.draw(level, rng)
        text = task.demonstrate(prompt, style, rng)
        assert is_well_formed(text)
        assert text.startswith(CAREFUL_PREFIX) == (style != "blunt")


@pytest.mark.parametrize("skill", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("level", [1, 5])
def test_blunt_answers_are_right_as_often_as_configured(skill, level):
    task, rng = task_of(options={"blunt_skill": skill}), random.Random(0)
    right = 0
    for _ in range(2000):
        prompt = task.draw(level, rng)
        right += extract_answer(task.demonstrate(prompt, "blunt", rng)) == prompt.answer
    columns = 3 * max(1, level - 1)
    if skill in (0.0, 1.0) and level == 1:
        assert right == 2000 * skill
    else:  # slips may cancel, so a little above; sd is at most 0.011
        assert skill**columns - 0.035 < right / 2000 < skill**columns + 0.055


def test_unknown_style_is_refused():
    task, rng = task_of(), random.Random(0)
    with pytest.raises(TaskError, match="blunt, careful, checked"):
        task.demonstrate(task.draw(1, rng), "verbose", rng)


# --- the stream of a cold start

PHASES = [
    SftPhase(levels=[1, 3], styles={"careful": 1.0}),
    SftPhase(styles={"blunt": 0.7, "careful": 0.3}),
]


def stream(seed=0, phase=0, phases=PHASES, num=400):
    cfg = TaskConfig(levels=[1, 2, 3], options={"layout": "table"})
    return list(itertools.islice(examples(cfg, SftConfig(phases=phases), seed, phase), num))


def test_stream_is_deterministic_and_differs_by_seed_and_phase():
    assert stream() == stream()
    assert stream() != stream(seed=1)
    assert [p for p, _ in stream(phase=0)] != [p for p, _ in stream(phase=1)]


def test_stream_keeps_to_the_shares_and_levels_of_its_phase():
    assert all(completion.startswith(CAREFUL_PREFIX) for _, completion in stream(phase=0))
    lengths = {len(numbers(prompt)) for prompt, _ in stream(phase=0)}
    assert lengths == {2, 3}
    careful_share = sum(c.startswith(CAREFUL_PREFIX) for _, c in stream(phase=1, num=2000)) / 2000
    assert abs(careful_share - 0.3) < 0.04  # sd 0.01
    assert {len(numbers(prompt)) for prompt, _ in stream(phase=1)} == {2, 3, 4, 5}


def test_stream_never_shows_a_question_that_is_held_out():
    held_out = TaskConfig(levels=[1], num_eval=2000)
    held_out = {tuple(sorted(numbers(p.text))) for p in load_task(held_out).prompts("eval")}
    phases = [SftPhase(levels=[1], styles={"blunt": 1.0})]
    shown = {tuple(sorted(numbers(p))) for p, _ in stream(phases=phases, num=5000)}
    assert held_out.isdisjoint(shown)


@pytest.mark.parametrize(
    "styles, error",
    [
        ({}, ConfigError),
        ({"careful": -1.0}, ConfigError),
        ({"careful": 0.0}, ConfigError),
        ({"verbose": 1.0}, TaskError),
    ],
)
def test_bad_shares_are_refused_before_the_first_example(styles, error):
    cfg = SftConfig(phases=[SftPhase(styles=styles)])
    with pytest.raises(error, match="style"):
        examples(TaskConfig(), cfg, 0, 0)
