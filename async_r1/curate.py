"""`async_r1 curate`: difficulty labels of a prompt set after Kimi k1.5, section 2.1.

The model that RL starts from answers each prompt `curate.samples` times; its pass rate is the
difficulty. A prompt that it also answers right without reasoning, in any of `curate.guesses`
tries, is `guessable`: what RL would learn from it is to guess.

OUT                 one row for each prompt (`curate_labels.label`), in the task's order
OUT.samples.jsonl   every completion, as it ended; a later call goes on from there
OUT.config.json     the model and options that all of them are of
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from async_r1.compose import Job, compose_jobs, run_jobs
from async_r1.config import Config
from async_r1.curate_labels import Labels, label_table
from async_r1.errors import ConfigError
from async_r1.model_files import fingerprint
from async_r1.offline import prepare_offline, run_offline
from async_r1.offline_items import read_prompts
from async_r1.offline_jobs import curate_samples, labels_file, prompts_file
from async_r1.run_dir import RunDir, read_json, write_json
from async_r1.supervisor import State

_OF_TASK = ("template", "system_prompt", "template_options", "max_new_tokens", "options", "name")
_OF_REWARD = ("function", "function_options")
_OF_CURATE = ("samples", "temperature", "guesses", "guess_prefix", "guess_tokens")


def main(argv: Sequence[str]) -> int:
    """Compose and curate; returns the exit code."""
    return run_jobs(compose_jobs("curate", argv, prepare), curate)


def prepare(config: Config) -> Config:
    """As for any job of an actor alone; the prompts have their own levels.

    Raises:
        ConfigError: a rule is broken, or the model is not there or could not run.
    """
    if config.task.labels:
        raise ConfigError(
            f"async_r1 curate labels the task itself: task.labels must be '', got "
            f"{config.task.labels!r}"
        )
    return prepare_offline(config)


def curate(job: Job) -> int:
    """Sample what is missing, and write and print the labels; returns the exit code.

    Raises:
        ConfigError: the machine lacks what the configuration asks for, or `curate.out` holds
            labels of another model or other options.
        RunDirError: the run directory holds a run already.
    """
    config = job.config
    labels: Labels | None = None
    if config.curate.out and not config.dry_run:
        claim(config, Path(config.curate.out))

    def tick(run_dir: RunDir) -> None:
        nonlocal labels
        if labels is None and prompts_file(run_dir).exists():
            claim(config, labels_file(config, run_dir))
            prompts = read_prompts(prompts_file(run_dir))
            labels = Labels(config.curate, prompts, curate_samples(config, run_dir))
        if labels is not None:
            labels.update()

    done = run_offline(
        "curate",
        config,
        label=Path(config.model.path).name,
        overrides=job.overrides,
        directory=job.directory,
        tick=tick,
    )
    if done is None:
        return 0
    outcome, run_dir = done
    tick(run_dir)
    if labels is not None:
        out = labels_file(config, run_dir)
        rows = labels.write(out)
        if rows:
            print(f"\n{label_table(config.curate, rows)}\n")
        if labels.num_unscored:
            print(f"without a label, for no sample could be scored: {labels.num_unscored:,}")
        if outcome.state is not State.FINISHED:
            again = "it again" if config.curate.out else f"the same with curate.out={out}"
            print(f"labels so far: {len(rows):,} of {labels.num_prompts:,}; run {again} to go on")
        print(f"labels: {out}")
    print(f"run: {run_dir.root}", flush=True)
    return outcome.exit_code


def claim(config: Config, out: Path) -> None:
    """Note what the labels are of; refuse a file whose labels are of something else.

    Raises:
        ConfigError: naming the first difference.
    """
    mine = _source(config)
    sidecar = out.with_suffix(".config.json")
    if not sidecar.exists():
        if out.exists():
            raise ConfigError(
                f"curate.out {out} exists and is not of async_r1 curate (no {sidecar.name})"
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(sidecar, mine)
        return
    found = read_json(sidecar)
    for name, value in mine.items():
        if name != "model.path" and found.get(name) != value:
            raise ConfigError(
                f"curate.out {out} has labels made with {name}={found.get(name)!r}, now it is "
                f"{value!r}; choose another curate.out"
            )


def _source(config: Config) -> dict[str, Any]:
    """All that the completions depend on, by option."""
    source: dict[str, Any] = {
        "model.weights": fingerprint(config.model.path),
        "model.path": config.model.path,
        "model.dtype": config.model.dtype,
        "model.max_length": config.model.max_length,
        "seed": config.seed,
    }
    if config.reward.function:
        file = Path(config.reward.function.rpartition(":")[0])
        source["reward.function's file"] = hashlib.blake2b(file.read_bytes()).hexdigest()[:16]
    for section, names in (("task", _OF_TASK), ("reward", _OF_REWARD), ("curate", _OF_CURATE)):
        values = asdict(getattr(config, section))
        source |= {f"{section}.{name}": values[name] for name in names}
    return source
