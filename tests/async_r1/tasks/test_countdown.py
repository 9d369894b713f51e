"""Countdown: every question is solvable, and the rule agrees with an enumeration of expressions."""

import ast
import random
import re
from fractions import Fraction

import pytest

from async_r1.config_task import TaskConfig
from async_r1.errors import TaskError
from async_r1.tasks import Completion, check_task, load_task
from async_r1.tasks.expressions import evaluate
from async_r1.templates import extract_answer, is_well_formed


def task_of(**values):
    return load_task(TaskConfig(name="countdown", **{"num_train": 300, "num_eval": 60, **values}))


def answer(text):
    return Completion(f"<think></think><answer>{text}</answer>", 9, truncated=False)


def reachable(numbers) -> dict[Fraction, str]:
    """Every value that uses all the numbers, with an expression: any two numbers, any sign."""
    found, seen = {}, set()
    stack = [tuple((Fraction(number), str(number)) for number in numbers)]
    while stack:
        terms = stack.pop()
        key = tuple(sorted(value for value, _ in terms))
        if key in seen:
            continue
        seen.add(key)
        if len(terms) == 1:
            found[terms[0][0]] = terms[0][1]
            continue
        for i, (a, left) in enumerate(terms):
            for j, (b, right) in enumerate(terms):
                if i == j:
                    continue
                rest = tuple(term for k, term in enumerate(terms) if k not in (i, j))
                values = [("+", a + b), ("-", a - b), ("*", a * b)]
                values += [("/", a / b)] if b else []
                for sign, value in values:
                    stack.append((*rest, (value, f"({left}{sign}{right})")))
    return found


@pytest.mark.parametrize("level, count", [(1, 12), (2, 12), (3, 3), (4, 3)])
def test_every_question_is_solvable_and_any_solution_counts(level, count):
    task = task_of(levels=[level], num_train=count)
    for prompt in task.prompts("train"):
        target, *numbers = (int(number) for number in re.findall(r"\d+", prompt.text))
        values = reachable(numbers)
        assert Fraction(target) in values
        for value, expression in list(values.items())[:200]:
            assert task.score(prompt, answer(expression)) == (value == target)
        assert task.score(prompt, answer(values[Fraction(target)])) == 1.0
        assert task.score(prompt, answer(prompt.answer)) == 1.0


def random_expression(rng, depth):
    if depth == 0 or rng.random() < 0.2:
        return str(rng.randint(0, 30))
    text = "".join(
        (random_expression(rng, depth - 1), rng.choice("+-*/"), random_expression(rng, depth - 1))
    )
    return f"({text})" if rng.random() < 0.7 else text


def test_values_agree_with_python():
    """Python's own evaluation, with each number made a fraction."""
    rng, undefined = random.Random(0), 0
    for _ in range(2000):
        text = random_expression(rng, 3)
        source = re.sub(r"(\d+)", r"Fraction(\1)", text)
        ast.parse(source, mode="eval")
        try:
            expected = eval(source)
        except ZeroDivisionError:
            expected, undefined = None, undefined + 1
        found = evaluate(text)
        assert (found and found.value) == expected
        assert found is None or found.numbers == [int(n) for n in re.findall(r"\d+", text)]
    assert undefined > 10


@pytest.mark.parametrize(
    "text",
    ["", " ", "3**9", "9//2", "3 5", "-3+8", "+3", "3(5)", "__import__('os')", "3.0+5", "1_0+14",
     "(3+5", "3+", "007+1", "0x3+5", "3=3", "3,5", "8/0", "3+5=8", "\uff13+5", "3\n+5",
     "(" * 150 + "3" + ")" * 150, "(" * 99 + "3" + ")" * 99, "9**9**9**9", "3+5#8", "3 if 5 else 8",
     "1+" * 99 + "1"],
)  # fmt: skip
def test_what_is_no_expression(text):
    found = evaluate(text)
    if text.startswith(("1+1+", "(" * 99 + "3")):
        assert found is None or found.value in (100, 3)  # as deep as the parser goes
    else:
        assert found is None


def test_numbers_are_used_once_each():
    task = task_of()
    prompt = task.get("countdown/9*3-3")
    assert prompt.text == "make 24 from 3 3 9"
    right = ["9*3-3", "(9*3)-3", " 3 * 9 - 3 ", "3*9-3"]
    wrong = ["8*3", "9*3-3*1", "9+9+3+3", "27-3", "24", "9*3", "9*3-3=24", "3+3+9", "9*9-3*3", ""]
    for text in right + wrong:
        assert task.score(prompt, answer(text)) == (text in right), text
    any_of = task_of(options={"use": "any"})
    prompt = any_of.get("countdown/9*3-3")
    for text, score in [("9*3-3", 1), ("24", 0), ("8*3", 0), ("3*3+9", 0)]:
        assert any_of.score(prompt, answer(text)) == score
    some = any_of.get("countdown/9/1*3")
    assert any_of.score(some, answer("9*3")) == 1 and task.score(some, answer("9*3")) == 0


def test_prompts_follow_from_the_configuration_and_splits_from_the_question():
    task = task_of()
    check_task(task)
    evals = {p.text for p in task.prompts("eval")}
    for seed in (0, 1):
        train = task_of(seed=seed).prompts("train")
        assert train == task_of(seed=seed).prompts("train")
        assert {p.text for p in train}.isdisjoint(evals) and len({p.text for p in train}) == 300
        assert [p.level for p in train[:10]] == [1, 2, 3, 4, 5] * 2
    for prompt in task.prompts("train"):
        assert task_of(seed=7).get(prompt.prompt_id) == prompt
        assert prompt.text.isascii() and prompt.text.isprintable()
    assert task_of(seed=0).prompts("train") != task_of(seed=1).prompts("train")


@pytest.mark.parametrize(
    "prompt_id",
    ["", "countdown/", "countdown/3+5", "9*3-3", "countdown/9*3-30", "countdown/1/2+3",
     "countdown/9*3 - 3", "countdown/100+99+1", "countdown/20*20*20", "countdown/3+5+x",
     "countdown/countdown/9*3-3", "countdown/1+2+3+4+5+6"],
)  # fmt: skip
def test_unknown_ids_are_refused(prompt_id):
    with pytest.raises(TaskError, match="no prompt"):
        task_of().get(prompt_id)


def test_careful_solutions_are_right_in_every_line():
    task, rng = task_of(), random.Random(0)
    for level in task.levels:
        for _ in range(50):
            prompt = task.draw(level, rng)
            text = task.demonstrate(prompt, "careful", rng)
            assert is_well_formed(text) and task.score(prompt, Completion(text, 9, False)) == 1.0
            first, *lines = text.removeprefix("<think>\n").partition("</think>")[0].split("\n")
            left = sorted(map(int, first.split()))
            assert left == prompt.extra["numbers"] and len(lines) == len(left) - 1
            for line in lines:
                a, sign, b, c, rest = re.fullmatch(r"(\d+)(.)(\d+)=(\d+): (.*)", line).groups()
                assert eval(f"{a}{sign}{b}") == int(c)
                left.remove(int(a))
                left.remove(int(b))
                left = sorted([*left, int(c)])
                assert left == [int(number) for number in rest.split()]
            assert left == [prompt.extra["target"]]
            working = text.removeprefix("<think>\n").partition("</think>")[0]
            twice = text.replace(working, f"{working}\n{working}")
            assert task.demonstrate(prompt, "checked", rng) == twice


@pytest.mark.parametrize("skill", [0.0, 0.8, 1.0])
def test_blunt_answers_are_right_as_often_as_configured(skill):
    task, rng = task_of(options={"blunt_skill": skill}), random.Random(0)
    right = 0
    for _ in range(1000):
        prompt = task.draw(1, rng)
        text = task.demonstrate(prompt, "blunt", rng)
        assert text.startswith("<think></think>") and extract_answer(text)
        right += task.score(prompt, Completion(text, 9, truncated=False))
    assert skill**2 - 0.05 < right / 1000 < skill**2 + 0.06  # a wrong sign may come out right


def test_exhausted_levels_end_the_list(monkeypatch):
    from async_r1.tasks import countdown

    monkeypatch.setitem(countdown._SHAPES, 1, (2, 3))
    task = task_of(levels=[1], num_train=100)
    assert 3 < len(task.prompts("train")) < 30


@pytest.mark.parametrize(
    "values, message",
    [
        ({"levels": [6]}, "levels of task countdown are 1 to 5"),
        ({"num_train": 10**7}, "up to 200000 prompts"),
        ({"options": {"blunt_skil": 1}}, "did you mean blunt_skill?"),
        ({"options": {"blunt_skill": 2}}, "blunt_skill must be >= 0 and <= 1"),
        ({"options": {"use": "some"}}, "task.options.use must be one of"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(TaskError, match=message):
        task_of(**values)
