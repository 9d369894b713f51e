"""The task reasoning_gym against the package itself."""

import json
import os
import subprocess
import sys

import pytest
import reasoning_gym

from async_r1.config_task import TaskConfig
from async_r1.errors import TaskError
from async_r1.tasks import Completion, check_task, load_task, some_prompts


def task_of(dataset="chain_sum", *, levels=(), seed=0, num_train=40, num_eval=12, **options):
    cfg = TaskConfig(
        name="reasoning_gym",
        levels=list(levels),
        seed=seed,
        num_train=num_train,
        num_eval=num_eval,
        options={"dataset": dataset, **options},
    )
    return load_task(cfg)


def completion(answer):
    return Completion(f"<think></think><answer>{answer}</answer>", 9, truncated=False)


def test_questions_are_those_of_the_dataset_but_for_the_held_out():
    own = reasoning_gym.create_dataset("chain_sum", size=500, seed=0, min_terms=3, max_terms=3)
    task = task_of(parameters={"min_terms": 3, "max_terms": 3})
    train = task.prompts("train")
    kept = 0
    for position, prompt in enumerate(train):
        entry = own[int(prompt.prompt_id.split("/")[4])]
        assert (prompt.text, prompt.answer) == (entry["question"], entry["answer"])
        assert entry["metadata"]["num_terms"] == 3 and prompt.level == 0
        kept += int(prompt.prompt_id.split("/")[4]) == position
    assert 15 < kept < 38  # of 40, one in three is held out
    check_task(task)
    assert task.isolated


def test_prompts_follow_from_the_configuration_and_get_needs_no_list():
    task = task_of(levels=[0, 2])
    for split in ("train", "eval"):
        prompts = task.prompts(split)
        assert prompts == task_of(levels=[0, 2]).prompts(split)
        for prompt in prompts:
            assert task_of(levels=[0, 2]).get(prompt.prompt_id) == prompt
            assert task.held_out(prompt.prompt_id) == (split == "eval")
    assert task.prompts("train") != task_of(levels=[0, 2], seed=1).prompts("train")
    assert task.prompts("eval") == task_of(levels=[0, 2], seed=1).prompts("eval")
    assert [p.level for p in task.prompts("train")[:4]] == [0, 2, 0, 2]


def test_splits_share_no_question_even_where_there_are_few():
    """Level 0 of chain_sum: two numbers of one digit, some hundred questions in all."""
    small = {"levels": [0], "num_train": 600, "num_eval": 100}
    evals = task_of(**small).prompts("eval")
    assert len({p.text for p in evals}) == len(evals) > 30
    for seed in (0, 1):
        train = {p.text for p in task_of(seed=seed, **small).prompts("train")}
        assert train.isdisjoint(p.text for p in evals)


@pytest.mark.parametrize("ranges", ["upper_bound", "inclusive"])
def test_levels_are_those_of_the_curriculum(ranges):
    """Level n of num_terms is [2..12][n], of num_digits [1..10][n]; read off the questions."""
    task = task_of(levels=[0, 3], ranges=ranges, num_train=80)
    assert task.levels == tuple(range(11))
    found = {0: set(), 3: set()}
    for prompt in task.prompts("train"):
        entry = task._entry(*task._fields(prompt.prompt_id)[:4])
        found[prompt.level].add(entry["metadata"]["num_terms"])
    expected = {"upper_bound": {5, 6}, "inclusive": {2, 3, 4, 5, 6}}[ranges]
    assert found[0] <= {2, 3} and found[3] <= expected and max(found[3]) >= 5


def test_a_curriculum_of_some_attributes_leaves_the_others():
    task = task_of(
        levels=[5], curriculum=["num_terms"], parameters={"min_digits": 1, "max_digits": 1}
    )
    for prompt in task.prompts("train"):
        metadata = task._entry(*task._fields(prompt.prompt_id)[:4])["metadata"]
        assert metadata["num_digits"] == 1 and metadata["num_terms"] in (7, 8)


def test_several_datasets_by_weight_with_levels_clipped():
    weights = {"chain_sum": 3, "prime_factorization": 1}
    task = task_of(weights, levels=[9], num_train=200, parameters={})
    names = [p.extra["dataset"] for p in task.prompts("train")]
    assert 0.6 < names.count("chain_sum") / 200 < 0.9  # sd 0.03
    assert set(names) == set(weights)
    listed = task_of(
        ["chain_sum", "prime_factorization"], parameters={"chain_sum": {"max_terms": 2}}
    )
    assert {p.extra["dataset"] for p in listed.prompts("train")} == set(weights)
    check_task(listed)


def test_checks_at_the_start_of_a_run_read_few_of_prompts_that_take_long():
    train = task_of(num_train=1000).prompts("train")
    assert len(list(some_prompts(train, 500))) == 100
    assert len(list(some_prompts(train[:50], 500))) == 50 and train[:50].slow
    assert len(list(some_prompts(list(train[:300]), 200))) == 200


def test_scores_are_the_datasets_own_and_right_or_wrong():
    own = reasoning_gym.create_dataset("countdown", size=500, seed=0)
    task, partial = task_of("countdown"), task_of("countdown", partial=True)
    prompt = task.prompts("train")[0]
    entry = own[int(prompt.prompt_id.split("/")[4])]
    assert entry["question"] == prompt.text
    for answer in (entry["answer"], "1+1", "junk", "__import__('os')", "9" * 400):
        score = own.score_answer(answer, entry)
        assert partial.score(prompt, completion(answer)) == score
        assert task.score(prompt, completion(answer)) == (score == 1.0)
    assert own.score_answer("junk", entry) > 0 == task.score(prompt, completion("junk"))
    assert task.score(prompt, Completion("no tags", 3, truncated=False)) == 0.0
    boxed = task_of("countdown", answer_from="boxed")
    text = f"<think></think>\\boxed{{{entry['answer']}}}"
    assert boxed.score(prompt, Completion(text, 9, truncated=False)) == 1.0


def test_a_scorer_that_fails_is_logged_once_and_the_answer_wrong(caplog):
    task = task_of()
    prompt = task.prompts("train")[0]
    name, level, seed, *_ = task._fields(prompt.prompt_id)

    def broken(answer, entry):
        raise RuntimeError("of theirs")

    task._dataset(name, level, seed).score_answer = broken
    assert [task.score(prompt, completion("7")) for _ in range(3)] == [0.0] * 3
    assert caplog.text.count("chain_sum cannot score '7': RuntimeError: of theirs") == 1


def test_a_dataset_without_reference_and_one_that_ends_at_its_size():
    prompt = task_of("rush_hour", num_train=1, parameters={"max_moves": 20}).prompts("train")[0]
    assert prompt.answer == ""
    finite = task_of("acre", size=20, num_train=50, num_eval=3)
    ids = [p.prompt_id for p in finite.prompts("train")]
    assert len(set(ids)) == 50 and max(int(i.split("/")[4]) for i in ids) > 20
    assert finite.get(ids[-1]) == finite.prompts("train")[49]


SHOW = """
import json, sys
from async_r1.config_task import TaskConfig
from async_r1.tasks import load_task
shown = {}
for dataset, known in json.loads(sys.argv[1]).items():
    cfg = TaskConfig(name="reasoning_gym", num_train=5, options={"dataset": dataset})
    task = load_task(cfg)
    errors = []
    for prompt_id in known:
        try:
            task.get(prompt_id)
        except ValueError as error:
            errors.append(str(error))
    shown[dataset] = [[p.prompt_id for p in task.prompts("train")], errors]
print(json.dumps(shown))
"""


def in_process(known, hash_seed):
    env = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, "-c", SHOW, json.dumps(known)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def test_other_processes_know_the_same_prompts_or_say_why_not():
    """The questions of isomorphic_strings depend on Python's hash seed."""
    first = in_process({"chain_sum": [], "isomorphic_strings": []}, hash_seed=1)
    known = {dataset: ids for dataset, (ids, _) in first.items()}
    second = in_process(known, hash_seed=2)
    assert second["chain_sum"] == [known["chain_sum"], []]
    errors = second["isomorphic_strings"][1]
    assert errors and all("set PYTHONHASHSEED=0" in error for error in errors)


@pytest.mark.parametrize(
    "prompt_id",
    ["", "reasoning_gym/", "reasoning_gym/chain_sum/0/0/1",
     "reasoning_gym/countdown/0/0/1/aaaaaaaa",
     "reasoning_gym/chain_sum/1/0/1/aaaaaaaa", "reasoning_gym/chain_sum/0/x/1/aaaaaaaa",
     "reasoning_gym/chain_sum/0/-1/1/aaaaaaaa", "other/chain_sum/0/0/1/aaaaaaaa",
     "reasoning_gym/chain_sum/0/\uff10/1/aaaaaaaa"],
)  # fmt: skip
def test_unknown_ids_are_refused(prompt_id):
    with pytest.raises(TaskError, match="no prompt"):
        task_of().get(prompt_id)


def test_an_id_of_other_options_is_refused():
    prompt = task_of().prompts("train")[0]
    with pytest.raises(TaskError, match=r"has another question now: other task\.options"):
        task_of(parameters={"min_terms": 6}).get(prompt.prompt_id)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"dataset": "chain_sums"}, "no dataset 'chain_sums'; did you mean chain_sum?"),
        ({"dataset": "composite"}, "no dataset 'composite'"),
        ({"dataset": 3}, "must be a name, a list of names or"),
        ({"dataset": {"chain_sum": 0}}, "weight of chain_sum must be > 0, got 0"),
        ({"dataset": []}, "must be a name"),
        (
            {"parameters": {"min_term": 3}},
            "parameters: unknown 'min_term'; did you mean min_terms?",
        ),
        ({"parameters": {"seed": 3}}, "parameters.seed is not yours to set"),
        ({"parameters": {"min_terms": 0}}, "chain_sum refuses min_terms=0: AssertionError"),
        ({"parameters": {"min_terms": "many"}}, "chain_sum refuses min_terms=many: TypeError"),
        ({"dataset": ["chain_sum"], "parameters": {"min_terms": 3}}, "parameters: unknown 'min_te"),
        ({"levels": [11]}, "are 0 to 10, got 11"),
        ({"dataset": "acre", "levels": [1]}, "acre has no curriculum: leave task.levels empty"),
        ({"levels": [1], "curriculum": ["num_term"]}, "curriculum: unknown 'num_term'; did you"),
        ({"levels": [1], "parameters": {"min_terms": 3}}, "also set by the curriculum"),
        ({"dataset": "knight_swap", "levels": [0]}, "knight_swap at level 0 refuses min_nodes=4"),
        ({"ranges": "exact"}, "task.options.ranges must be one of"),
    ],
)
def test_mistakes_are_one_line(values, message):
    with pytest.raises(TaskError, match=message) as caught:
        task_of(**values)
    assert "\n" not in str(caught.value)


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    from async_r1.tasks import reasoning_gym_datasets

    reasoning_gym_datasets._library.cache_clear()
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(TaskError, match=r"pip install 'async_r1\[reasoning-gym\]'"):
        task_of()
