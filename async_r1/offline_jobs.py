"""What an actor samples outside of the training loop, by the name of the job."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from async_r1.config import Config
from async_r1.offline_items import Item
from async_r1.run_dir import RunDir
from async_r1.tasks.protocol import Prompt, Split


@dataclass(frozen=True)
class OfflineJob:
    """Which completions of which prompts, and where their rows go."""

    split: Callable[[Config], Split]
    items: Callable[[Config, Sequence[Prompt]], Iterator[Item]]
    samples: Callable[[Config, RunDir], Path]


def eval_samples(config: Config, run_dir: RunDir) -> Path:
    return run_dir.root / "samples.jsonl"


def prompts_file(run_dir: RunDir) -> Path:
    """The prompts of a job, in its order."""
    return run_dir.root / "prompts.jsonl"


def labels_file(config: Config, run_dir: RunDir) -> Path:
    """The labels of `async_r1 curate`."""
    return Path(config.curate.out) if config.curate.out else run_dir.root / "labels.jsonl"


def curate_samples(config: Config, run_dir: RunDir) -> Path:
    """Beside the labels, so that a later call finds them."""
    return labels_file(config, run_dir).with_suffix(".samples.jsonl")


def eval_items(config: Config, prompts: Sequence[Prompt]) -> Iterator[Item]:
    """Of each held-out prompt a greedy completion and `evaluate.samples` sampled ones."""
    options = config.evaluate
    longest = config.task.max_new_tokens
    for prompt in prompts:
        if options.greedy:
            yield Item(
                prompt_id=prompt.prompt_id,
                kind="greedy",
                index=0,
                temperature=0.0,
                max_new_tokens=longest,
            )
        for index in range(options.samples):
            yield Item(
                prompt_id=prompt.prompt_id,
                kind="sample",
                index=index,
                temperature=options.temperature,
                max_new_tokens=longest,
            )


# By where a completion has its answer (`tasks.answers.find_answer`).
_GUESS_PREFIXES = {
    "tags": "<think></think><answer>",
    "boxed": "<think></think>\n\\boxed{",
    "text": "<think></think>\n",
}


def curate_items(config: Config, prompts: Sequence[Prompt]) -> Iterator[Item]:
    """Of each prompt `curate.samples` completions and `curate.guesses` without reasoning."""
    options = config.curate
    prefix = options.guess_prefix or _GUESS_PREFIXES[config.task.options.get("answer_from", "tags")]
    for prompt in prompts:
        for index in range(options.samples):
            yield Item(
                prompt_id=prompt.prompt_id,
                kind="sample",
                index=index,
                temperature=options.temperature,
                max_new_tokens=config.task.max_new_tokens,
            )
        for index in range(options.guesses):
            yield Item(
                prompt_id=prompt.prompt_id,
                kind="guess",
                index=index,
                temperature=options.temperature,
                max_new_tokens=options.guess_tokens,
                prefix=prefix,
            )


JOBS = {
    "eval": OfflineJob(lambda _: "eval", eval_items, eval_samples),
    "curate": OfflineJob(lambda config: config.curate.split, curate_items, curate_samples),
}
