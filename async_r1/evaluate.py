"""`async_r1 eval CHECKPOINT`: greedy accuracy and pass@k of a checkpoint, through vLLM.

RUN/samples.jsonl   every completion, as it ended
RUN/eval.json       the results (`eval_results.results`)
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from async_r1.checkpoints import Checkpoint, find_checkpoint
from async_r1.compose import Job, compose_jobs, run_jobs
from async_r1.config import Config
from async_r1.errors import ConfigError
from async_r1.eval_results import results
from async_r1.eval_table import eval_table
from async_r1.metrics import read_rows
from async_r1.offline import prepare_offline, run_offline
from async_r1.offline_jobs import eval_samples
from async_r1.run_dir import write_json
from async_r1.supervisor import State

_USAGE = (
    "async_r1 eval needs a checkpoint first: a model directory, a Hugging Face name, configs:..., "
    "or a run directory"
)


def main(argv: Sequence[str]) -> int:
    """Compose and evaluate; returns the exit code."""
    if not argv or argv[0].startswith("-") or ("=" in argv[0] and not Path(argv[0]).exists()):
        raise ConfigError(f"{_USAGE}; got {argv[0]!r}" if argv else _USAGE)
    checkpoint = find_checkpoint(argv[0])

    def prepare(config: Config) -> Config:
        model = replace(config.model, path=checkpoint.path, init="", tie_embeddings=False)
        return prepare_offline(replace(config, model=model))

    jobs = compose_jobs("eval", argv[1:], prepare, checkpoint.config)
    return run_jobs(jobs, lambda job: evaluate(job, checkpoint))


def evaluate(job: Job, checkpoint: Checkpoint) -> int:
    """Sample, and write and print the results; returns the exit code.

    Raises:
        ConfigError: the machine lacks what the configuration asks for.
        RunDirError: `evaluate.out` holds results already.
    """
    config = job.config
    done = run_offline(
        "eval",
        config,
        label=checkpoint.label,
        overrides=job.overrides,
        directory=config.evaluate.out or job.directory,
    )
    if done is None:
        return 0
    outcome, run_dir = done
    samples = eval_samples(config, run_dir)
    if outcome.state is State.FINISHED:
        found = results(config, read_rows(samples))
        write_json(run_dir.root / "eval.json", found)
        print(f"\n{eval_table(found)}\n\nresults: {run_dir.root / 'eval.json'}")
    elif samples.exists():
        print(f"completions so far: {samples}")
    print(f"run: {run_dir.root}", flush=True)
    return outcome.exit_code
