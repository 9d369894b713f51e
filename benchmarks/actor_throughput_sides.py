"""The two sides of `actor_throughput.py`, each a process: SIDE resolved.json CORE.

Requests come as JSON lines on standard input, answers leave the same way; the end of the input
ends the process.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from async_r1.role import Role


def main() -> int:
    side, resolved, core = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})
    role = Role.start("actors", ["--config", resolved])
    answers = actor(role) if side == "actor" else bare(role)
    next(answers)
    say({"ready": side})
    for line in sys.stdin:
        say(answers.send(json.loads(line)))
    return 0


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def actor(role: Role) -> Iterator[Any]:
    """Turns of a real actor: from no lease to the last acknowledgement of `num_rollouts`."""
    from transformers import AutoTokenizer

    from actors.client import BufferClient
    from actors.engine import SamplingEngine
    from actors.loop import ActorLoop
    from actors.scoring import Scorer
    from actors.stats import ActorStats
    from actors.stop_tokens import stop_token_ids
    from actors.weights import WeightReceiver
    from async_r1.tasks import load_task
    from async_r1.types import Lease

    class RecordingLoop(ActorLoop):
        """Remembers what it sampled from, and does not wait when nobody owes it anything."""

        prompts: list[list[int]]

        def _wait(self) -> None:
            if not self.prompts or self._rollouts or unanswered(self._client):
                super()._wait()

        def _begin(self, lease: Lease) -> None:
            super()._begin(lease)
            self.prompts.append(self._scorer.prompt_token_ids(lease.prompt_id).tolist())

    config = role.config
    stops = stop_token_ids(config.model.path)
    engine = SamplingEngine(config, seed=config.seed, stop_token_ids=stops)
    weights = WeightReceiver(role.resolved.weights_address, role.name, role.index, engine)
    client = BufferClient(role.resolved.buffer_address, role.name, role.index, 120.0)
    client.join(time.monotonic())
    stats = ActorStats(role.metrics())
    tokenizer = AutoTokenizer.from_pretrained(config.model.path)
    scorer = Scorer(config, load_task(config.task), tokenizer, stops)
    loop = RecordingLoop(config, engine, client, weights, scorer, stats)
    request = yield
    while True:
        # As after a publication, without the transfer.
        engine._core.set_weight_version(str(request["policy_version"]))
        engine.policy_version = request["policy_version"]
        loop.prompts = []
        sampled = stats.total_tokens
        engine_s, score_s = stats._engine_s, stats._scoring_s
        started = time.perf_counter()
        while len(loop.prompts) < request["num_rollouts"] or loop._rollouts or unanswered(client):
            loop.iterate()
        seconds = time.perf_counter() - started
        request = yield {
            "tokens": stats.total_tokens - sampled,
            "seconds": seconds,
            "engine_s": stats._engine_s - engine_s,
            "score_s": stats._scoring_s - score_s,
            "prompts": loop.prompts,
        }


def unanswered(client: Any) -> bool:
    """Whether a segment of this actor's is not acknowledged yet."""
    return bool(client._unacknowledged) or client.blocked


def bare(role: Role) -> Iterator[Any]:
    """Turns of `LLM.generate` on the same prompts, under the actor's sampling parameters."""
    from vllm import LLM, SamplingParams
    from vllm.inputs.engine import tokens_input

    config = role.config
    llm = LLM(
        model=config.model.path,
        dtype=config.model.dtype,
        max_model_len=config.model.max_length,
        max_num_seqs=config.actors.max_concurrent,
        logprobs_mode="processed_logprobs",
        skip_tokenizer_init=True,
        disable_log_stats=True,
        seed=config.seed,
        **config.actors.engine,
    )
    request = yield
    while True:
        params = SamplingParams(
            temperature=config.actors.temperature,
            max_tokens=request["new_tokens"],
            ignore_eos=True,
            logprobs=0,
            detokenize=False,
        )
        prompts = [tokens_input(ids) for ids in request["prompts"]]
        started = time.perf_counter()
        outputs = llm.generate(prompts, params, use_tqdm=False)
        seconds = time.perf_counter() - started
        completions = [output.outputs[0] for output in outputs]
        assert all(len(c.logprobs) == len(c.token_ids) for c in completions)
        request = yield {
            "tokens": sum(len(completion.token_ids) for completion in completions),
            "seconds": seconds,
        }


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    sys.exit(main())
