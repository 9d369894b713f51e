"""Tokens per second through the whole actor-buffer path, over bare vLLM.

    .venv/bin/python benchmarks/actor_throughput.py [--concurrency 64] [--new-tokens 200] [--json]

One side is a real actor loop: prompts leased from a real buffer process over ZeroMQ, segments with
log-probs and versions streamed to it, journaled and acknowledged, completions scored. The other is
`vllm.LLM.generate` with log-probs on the prompts that the actor just had, in the same number at a
time, and without detokenising. A random model that cannot end a completion makes all lengths equal.

The engines are in process, one thread each, in two processes on the same core, which take turns;
the buffer has the other core, as in a run. The figure is the median over pairs of actor / bare.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common

LIMIT = 0.95
SIDES = Path(__file__).with_name("actor_throughput_sides.py")
TIMEOUT_S = 300.0


class Side:
    """One side in its own process: a request on its standard input, an answer on its output."""

    def __init__(self, side: str, resolved: Path, core: int, log: Path) -> None:
        self._log = log
        self._process = subprocess.Popen(
            [sys.executable, str(SIDES), side, str(resolved), str(core)],
            env={**os.environ, **common.ONE_THREAD, "PYTHONPATH": str(common.ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
        )
        self.answer()  # ready

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise SystemExit(f"a side ended early:\n{self._log.read_text()[-3000:]}")

    def close(self) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()


def main() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("--concurrency", type=int, default=64, help="rollouts at a time")
    parser.add_argument("--new-tokens", type=int, default=200, help="tokens of every rollout")
    parser.add_argument("--waves", type=int, default=4, help="rollouts of a turn / concurrency")
    parser.add_argument("--pairs", type=int, default=5, help="turns of each side")
    parser.add_argument("--segment-tokens", type=int, default=32, help="tokens of a segment")
    args = parser.parse_args()
    if args.quick:
        args.concurrency, args.new_tokens, args.waves, args.pairs = 16, 40, 2, 2
    cores = sorted(os.sched_getaffinity(0))
    facts = common.conditions(
        model="nano (0.8 M parameters, float32, random)",
        engine_core=cores[-1],
        buffer_core=cores[0],
        threads="1 each",
        concurrency=args.concurrency,
        new_tokens=args.new_tokens,
        rollouts_per_turn=args.concurrency * args.waves,
        segment_tokens=args.segment_tokens,
    )
    common.print_conditions(facts)
    with tempfile.TemporaryDirectory() as directory:
        pairs = measure(args, Path(directory), engine_core=cores[-1], buffer_core=cores[0])
    ratios = [pair["actor"] / pair["bare"] for pair in pairs]
    ratio = statistics.median(ratios)
    common.print_table(
        ["tokens/s", *(f"pair {i + 1}" for i in range(len(pairs))), "median"],
        [
            [name, *values, statistics.median(values)]
            for name, values in (
                ("actor and buffer", [pair["actor"] for pair in pairs]),
                ("bare LLM.generate", [pair["bare"] for pair in pairs]),
                ("ratio", ratios),
            )
        ],
    )
    common.print_table(
        ["of the actor's time", "share"],
        [[name, f"{statistics.median(p[name] for p in pairs):.1%}"] for name in ACTOR_SHARES],
    )
    verdict = "reached" if ratio >= LIMIT else "MISSED"
    print(f"ratio {ratio:.3f}, at least {LIMIT} wanted: {verdict}")
    return common.finish(
        args, {"ratio": ratio, "limit": LIMIT, "ratios": ratios, "pairs": pairs, **facts}
    )


ACTOR_SHARES = ("engine", "scoring", "everything else")


def measure(
    args: Any, directory: Path, *, engine_core: int, buffer_core: int
) -> list[dict[str, Any]]:
    """Tokens per second of each side in each pair, after a turn of each to warm up."""
    from learner.client import BufferClient

    group_size = 8
    num_groups = args.concurrency * args.waves // group_size
    resolved = prepare(args, directory, num_groups=num_groups, group_size=group_size)
    with contextlib.ExitStack() as stack:
        stack.enter_context(buffer_process(resolved, buffer_core, directory / "buffer.log"))
        actor = Side("actor", resolved, engine_core, directory / "actor.log")
        stack.callback(actor.close)
        bare = Side("bare", resolved, engine_core, directory / "bare.log")
        stack.callback(bare.close)
        address = json.loads(resolved.read_text())["buffer_address"]
        draws = BufferClient(address, "learner_000", TIMEOUT_S)
        stack.callback(draws.close)
        draws.hello(0)
        pairs = []
        for turn in range(args.pairs + 1):
            # Groups are admitted for one draw at a time: the actor ends its turn idle.
            sampled = actor.ask(policy_version=turn, num_rollouts=num_groups * group_size)
            generated = bare.ask(prompts=sampled.pop("prompts"), new_tokens=args.new_tokens)
            batch = draws.request_batch(turn, TIMEOUT_S)
            received = len(batch.arrays["token_ids"])
            expected = num_groups * group_size * args.new_tokens
            assert sampled["tokens"] == generated["tokens"] == received == expected, (
                sampled, generated, received, expected,
            )  # fmt: skip
            draws.step_done(
                batch_id=turn + 1, step=turn + 1, policy_version=turn + 1, trained_tokens=received
            )
            if turn:
                actor_s = sampled["seconds"]
                pairs.append(
                    {
                        "actor": expected / actor_s,
                        "bare": expected / generated["seconds"],
                        "engine": sampled["engine_s"] / actor_s,
                        "scoring": sampled["score_s"] / actor_s,
                        "everything else": 1 - (sampled["engine_s"] + sampled["score_s"]) / actor_s,
                    }
                )
    return pairs


def prepare(args: Any, directory: Path, *, num_groups: int, group_size: int) -> Path:
    """The resolved configuration that a launcher would have written."""
    from async_r1.compose import compose
    from async_r1.ports import free_ports
    from async_r1.role import Resolved
    from async_r1.run_dir import RunDir, write_json
    from async_r1.schema import to_dict

    max_length = 2 ** (args.new_tokens + 128).bit_length()
    model = directory / "model"
    common.endless_model(model, max_length=max_length)
    config = compose(
        [
            f"model.path={model}",
            f"model.max_length={max_length}",
            f"task.max_new_tokens={args.new_tokens}",
            f"actors.max_concurrent={args.concurrency}",
            f"actors.segment_tokens={args.segment_tokens}",
            f"buffer.group_size={group_size}",
            "buffer.keep_zero_variance=true",
            f"learner.groups_per_update={num_groups}",
            "staleness.eta=0",
            "eval.every=0",
        ]
    )
    run_dir = RunDir.create(directory / "run")
    buffer_port, weights_port = free_ports(config.run.host, 2)
    resolved = Resolved(
        config=config,
        run_dir=str(run_dir.root),
        buffer_address=f"tcp://{config.run.host}:{buffer_port}",
        weights_address=f"tcp://{config.run.host}:{weights_port}",
        started_at=time.time(),
    )
    write_json(run_dir.resolved, to_dict(resolved))
    return run_dir.resolved


@contextlib.contextmanager
def buffer_process(resolved: Path, core: int, log: Path) -> Iterator[None]:
    """`python -m buffer`, kept on one core."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "buffer", "--config", str(resolved)],
        env={**os.environ, **common.ONE_THREAD, "PYTHONPATH": str(common.ROOT)},
        stderr=log.open("w"),
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    sys.exit(main())
