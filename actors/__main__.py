"""`python -m actors --config RUN/config/resolved.json --index 0 [--job eval|curate]`."""

import argparse
import sys
import time

from async_r1.role import Role, run_role


def main() -> int:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--job", default="")  # sample for it outside of the training loop
    own, rest = parser.parse_known_args()
    return run_role("actors", lambda role: _offline(role, own.job) if own.job else _run(role), rest)


def _offline(role: Role, job: str) -> None:
    role.status("starting", "importing vLLM")
    from actors.offline import run

    run(role, job)


def _run(role: Role) -> None:
    config = role.config
    role.status("starting", "importing vLLM")
    from actors.client import BufferClient
    from actors.engine import SamplingEngine
    from actors.loop import ActorLoop
    from actors.prompt_check import check_prompts
    from actors.scoring import Scorer
    from actors.stats import ActorStats
    from actors.tokenizer import load_tokenizer
    from actors.weights import WeightReceiver
    from async_r1.model_files import vocab_size
    from async_r1.tasks import load_task
    from async_r1.templates import PromptForm

    tokenizer, stops = load_tokenizer(config)
    task = load_task(config.task)
    form = PromptForm(config.task, tokenizer)
    check_prompts(config, task, form, "train", *(("eval",) if config.eval.every else ()))
    role.status("starting", f"loading {config.model.path} into vLLM")
    engine = SamplingEngine(config, seed=config.seed + role.index, stop_token_ids=stops)
    try:
        weights = WeightReceiver(role.resolved.weights_address, role.name, role.index, engine)
        client = BufferClient(
            role.resolved.buffer_address,
            role.name,
            role.index,
            config.run.peer_timeout_s,
            vocab_size(config.model.path),
        )
        role.status("starting", f"waiting for the buffer at {role.resolved.buffer_address}")
        known_version = client.join(time.monotonic())
        stats = ActorStats(role.metrics())
        scorer = Scorer(config, task, tokenizer, stops)
        role.status("running", "sampling")
        try:
            ActorLoop(config, engine, client, weights, scorer, stats).run(known_version)
            stats.version_loaded(engine, weights, client, scorer)
        finally:
            scorer.close()
        client.close()
        weights.close()
    finally:
        engine.close()
    role.status("done")


if __name__ == "__main__":
    sys.exit(main())
