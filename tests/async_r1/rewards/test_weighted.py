"""Rule rewards: truth tables over completions of one prompt."""

import pytest

from async_r1.config_task import RewardConfig, TaskConfig
from async_r1.rewards import Rewards, make_rewards
from async_r1.tasks import Completion, load_task

TASK = load_task(TaskConfig())
PROMPT = TASK.get("arithmetic/2395+972")
GOOD = "<think>a</think><answer>3367</answer>"


def score(text, truncated=False, **weights):
    rewards = make_rewards(RewardConfig(**weights), TaskConfig(), TASK)
    return rewards.score(PROMPT, Completion(text, len(text), truncated=truncated))


@pytest.mark.parametrize(
    "text, accuracy, form",
    [
        (GOOD, 1.0, 1.0),
        ("<think>a</think><answer>3368</answer>", 0.0, 1.0),
        ("a</think><answer>3367</answer>", 1.0, 0.0),
        (GOOD + " indeed", 1.0, 0.0),
        ("<think>a</think><answer></answer>", 0.0, 1.0),
        ("<think>a</think><answer>03367</answer>", 0.0, 1.0),
        ("<think>a</think><answer>\uff13\uff13\uff16\uff17</answer>", 0.0, 1.0),
        ("<think>a</think><answer> 3367 </answer>", 1.0, 1.0),
        # Several answers, one of which is right, are a guess and not an answer.
        (GOOD + "<answer>3368</answer>", 0.0, 0.0),
        ("<think>a</think><answer>3368</answer><answer>3367</answer>", 0.0, 0.0),
        ("<think><answer>3367</answer></think>", 0.0, 0.0),
        ("<think>a</think><answer><answer>3367</answer></answer>", 0.0, 0.0),
        ("3367", 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_terms_and_their_weighted_sum(text, accuracy, form):
    rewards = score(text, accuracy=2.0, format=0.25)
    assert rewards == {
        "accuracy": accuracy,
        "format": form,
        "task": accuracy,
        "total": 2.0 * accuracy + 0.25 * form,
    }


def test_a_truncated_completion_earns_nothing_however_whole_it_looks():
    assert set(score(GOOD, truncated=True).values()) == {0.0}


def test_success_is_accuracy_whatever_its_weight():
    rewards = score(GOOD, accuracy=0.0, format=1.0)
    assert rewards["task"] == 1.0 and rewards["total"] == 1.0
    rewards = score("<think>a</think><answer>3368</answer>", accuracy=0.0, format=1.0)
    assert rewards["task"] == 0.0 and rewards["total"] == 1.0


def test_terms_need_weights_and_may_not_take_the_names_of_results():
    def one(prompt, completion):
        return 1.0

    def right(prompt, completion):
        return 1.0, {}

    with pytest.raises(AssertionError):
        Rewards(right, {"brevity": one}, {"accuracy": 1.0})
    with pytest.raises(AssertionError):
        Rewards(right, {"total": one}, {"accuracy": 1.0, "total": 1.0})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e39, None, "1"])
def test_no_reward_that_is_not_a_finite_number_gets_out(bad):
    def right(prompt, completion):
        return 1.0, {}

    completion = Completion(GOOD, 3, truncated=False)
    for rewards in (
        Rewards(lambda p, c: (bad, {}), {}, {"accuracy": 1.0}),
        Rewards(right, {"brevity": lambda p, c: bad}, {"accuracy": 1.0, "brevity": 0.0}),
        Rewards(lambda p, c: (1.0, {"extra": bad}), {}, {"accuracy": 1.0}),
    ):
        outcome = rewards.outcome(PROMPT, completion)
        assert outcome.rewards == {} and repr(bad) in outcome.error
    huge = Rewards(right, {"brevity": lambda p, c: 3e38}, {"accuracy": 1.0, "brevity": 2.0})
    assert "total must be finite" in huge.outcome(PROMPT, completion).error


def test_a_task_that_raises_is_an_outcome_and_ctrl_c_is_not():
    def raises(error):
        def check(prompt, completion):
            raise error

        return Rewards(check, {}, {"accuracy": 1.0})

    completion = Completion(GOOD, 3, truncated=False)
    outcome = raises(ZeroDivisionError("one\n two")).outcome(PROMPT, completion)
    assert outcome.error.startswith(f"ZeroDivisionError: one two ({__file__}:")
    long = raises(ValueError("x" * 9999)).outcome(PROMPT, completion)
    assert len(long.error) < 1000
    with pytest.raises(KeyboardInterrupt):
        raises(KeyboardInterrupt()).outcome(PROMPT, completion)
