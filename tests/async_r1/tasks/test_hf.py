"""The task hf on local datasets, in each form that they are saved in."""

import logging

import pytest

from async_r1.compose import compose
from async_r1.config_task import TaskConfig
from async_r1.errors import TaskError
from async_r1.tasks import Completion, check_task, load_task, resolve_paths
from async_r1.tasks.hf import HfOptions
from async_r1.tasks.options import read_options

COLUMNS = {
    "question": [f"How many is {i} and {i}?" for i in range(60)],
    "answer": [f"Add {i} and {i}.\n#### {1000 + 2 * i:,}" for i in range(60)],
    "level": [1 + i % 3 for i in range(60)],
    "subject": ["sums"] * 60,
}
GSM8K = {"prompt_key": "question", "answer_regex": "#### (.*)", "answer": "number"}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Datasets need no network here, and their cache is not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_DATASETS_OFFLINE", "1")
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        import datasets

        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        datasets.disable_progress_bars()
        yield datasets


@pytest.fixture(scope="module")
def saved(datasets, tmp_path_factory):
    """The same rows in every form."""
    root = tmp_path_factory.mktemp("data")
    rows = datasets.Dataset.from_dict(COLUMNS)
    (root / "folder").mkdir()
    rows.select(range(50)).to_parquet(str(root / "folder" / "train.parquet"))
    rows.select(range(50, 60)).to_parquet(str(root / "folder" / "test.parquet"))
    rows.to_parquet(str(root / "all.parquet"))
    rows.to_json(str(root / "all.jsonl"))
    rows.save_to_disk(str(root / "single"))
    split = {"train": rows.select(range(50)), "test": rows.select(range(50, 60))}
    datasets.DatasetDict(split).save_to_disk(str(root / "splits"))
    return root


def task_of(path, *, levels=(), **options):
    cfg = TaskConfig(
        name="hf",
        levels=list(levels),
        num_train=0,
        num_eval=100,
        options={"name": str(path), **GSM8K, **options},
    )
    return load_task(cfg)


@pytest.mark.parametrize("form", ["folder", "splits"])
def test_splits_of_a_dataset(saved, form):
    task = task_of(saved / form, eval_split="test")
    train, evals = task.prompts("train"), task.prompts("eval")
    assert [p.text for p in train] == COLUMNS["question"][:50]
    assert [p.text for p in evals] == COLUMNS["question"][50:]
    assert [p.answer for p in train] == [f"{1000 + 2 * i:,}" for i in range(50)]
    assert [p.level for p in train] == COLUMNS["level"][:50]
    assert dict(train[0].extra) == {"subject": "sums"}
    assert (train[3].prompt_id, evals[3].prompt_id) == ("hf/3", "hf/eval/3")
    for prompt in (train[3], evals[3]):
        assert task_of(saved / form, eval_split="test").get(prompt.prompt_id) == prompt
    done = Completion("<think></think><answer>1006</answer>", 9, truncated=False)
    assert task.score(train[3], done) == 1.0 and task.score(train[4], done) == 0.0
    check_task(task)


@pytest.mark.parametrize("form", ["all.parquet", "all.jsonl", "single"])
def test_a_share_is_held_out_where_there_is_one_split(saved, form):
    task = task_of(saved / form, levels=[2, 3], eval_frac=0.3)
    texts = {split: {p.text for p in task.prompts(split)} for split in ("train", "eval")}
    assert texts["train"].isdisjoint(texts["eval"])
    expected = {q for q, n in zip(COLUMNS["question"], COLUMNS["level"], strict=True) if n > 1}
    assert texts["train"] | texts["eval"] == expected and len(texts["eval"]) > 4
    check_task(task)


def test_an_eval_split_of_another_dataset_never_trains(saved, caplog):
    task = task_of(saved / "all.parquet", eval_name=str(saved / "folder"), eval_split="test")
    with caplog.at_level(logging.WARNING):
        assert [p.text for p in task.prompts("train")] == COLUMNS["question"][:50]
    assert "10 questions are held out too" in caplog.text


@pytest.mark.parametrize(
    "options, message",
    [
        ({"train_split": "trian"}, "has no split 'trian'; did you mean train?"),
        ({"eval_split": "val"}, "has no split 'val'; it has"),
        ({"prompt_key": "qestion"}, "prompt_key: .* has no column 'qestion'; did you mean quest"),
        ({"level_key": "hard"}, "level_key: .* has no column 'hard'; known: question"),
        ({"answer_regex": "answer: (.*)"}, "50 bad rows: row 0: 'answer' does not match"),
        ({"name": ""}, "task.options.name must name a dataset"),
        ({"eval_name": "x"}, "eval_name needs task.options.eval_split"),
        ({"spilt": "x"}, "unknown option task.options.spilt"),
    ],
)
def test_mistakes_are_one_line(saved, options, message):
    with pytest.raises(TaskError, match=message) as caught:
        task_of(saved / "folder", **options).prompts("eval")
    assert "\n" not in str(caught.value)


def test_a_dataset_that_is_not_there_and_a_file_of_another_kind(saved, datasets, tmp_path):
    with pytest.raises(TaskError, match=r"cannot read dataset .*nobody/nothing.*: \w+") as caught:
        task_of("nobody/nothing").prompts("train")
    assert "\n" not in str(caught.value)
    (tmp_path / "a.xml").write_text("")
    with pytest.raises(TaskError, match=r"must be a file of \.parquet"):
        task_of(tmp_path / "a.xml").prompts("train")


def test_paths_become_absolute_and_names_of_the_hub_stay(saved, monkeypatch):
    monkeypatch.chdir(saved)
    cfg = TaskConfig(name="hf", options={"name": "folder", "eval_name": "openai/gsm8k"})
    options = resolve_paths(cfg).options
    assert options == {"name": str(saved / "folder"), "eval_name": "openai/gsm8k"}


@pytest.mark.parametrize("preset", ["gsm8k", "math"])
def test_presets_compose_and_their_options_are_known(preset):
    cfg = compose([f"task={preset}"]).task
    options = read_options(HfOptions, cfg)
    assert cfg.name == "hf" and options.name.count("/") == 1
    assert options.answer == "math" and cfg.template == "chat"
    assert load_task(cfg).isolated  # reads nothing yet
