"""What a draw of the curriculum costs at 10^4, 10^6 and 10^7 prompts, and what a prompt takes.

    .venv/bin/python benchmarks/curriculum_sample.py [--quick] [--json]

Half of the prompts are seen before anything is timed; with gates, a tenth is retired. `sample(64)`
also notes the outcomes of the 64 groups that closed since the one before: the time has both. Memory
is that of all arrays, every page touched. The goal is `ms_1e7` below 5; on a busy machine `ms` has
waiting for a core in it, and "of CPU" has not.
"""

import sys
import time
from typing import Any

import common
import numpy as np

from async_r1.compose import compose
from buffer.curriculum.mixture import Mixture
from buffer.curriculum.protocol import Outcome

COUNT = 64
GOAL_MS = 5.0
CHOICES = ("uniform", "mixture", "kimi_curriculum", "thompson", "plr", "adarft", "pools")
GATES = ["curriculum.retire.threshold=0.9", "curriculum.greso.enabled=true"]


def main() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("--draws", type=int, default=100, help="timed calls of sample(64)")
    args = parser.parse_args()
    sizes = [1_000, 20_000] if args.quick else [10_000, 1_000_000, 10_000_000]
    draws = 10 if args.quick else args.draws
    facts = common.conditions(numpy=np.__version__, draws=draws, at_a_time=COUNT, levels=5)
    common.print_conditions(facts)
    rows: list[dict[str, Any]] = []
    for choice in (*CHOICES, "mixture with gates"):
        for size in sizes:
            rows.append(measure(choice, size, draws))
    common.print_table(
        [
            "curriculum",
            "prompts",
            "ms",
            "of CPU",
            "p99 ms",
            "sample(1) ms",
            "bytes/prompt",
            "made in s",
        ],
        [list(row.values()) for row in rows],
    )
    default = {row["prompts"]: row for row in rows if row["choice"] == "mixture"}
    names = ["1e4", "1e6", "1e7"] if not args.quick else ["small", "large"]
    result: dict[str, Any] = {
        f"ms_{name}": default[size]["ms"] for name, size in zip(names, sizes, strict=True)
    }
    largest = default[sizes[-1]]
    result["cpu_ms_largest"] = largest["cpu_ms"]
    print(
        f"The default at {largest['prompts']:,} prompts: {largest['ms']:.2f} ms "
        f"(goal {GOAL_MS:g}), {largest['bytes']:.0f} bytes a prompt"
    )
    result |= {"goal_ms": GOAL_MS, "bytes_per_prompt": largest["bytes"], "rows": rows}
    return common.finish(args, {**result, **facts})


def measure(choice: str, size: int, draws: int) -> dict[str, Any]:
    """One curriculum over so many prompts."""
    name, _, gates = choice.partition(" with ")
    options = compose([f"curriculum={name}", *(GATES if gates else [])]).curriculum
    began = time.perf_counter()
    mixture = Mixture(options, np.arange(size) % 5, seed=0)
    made_s = time.perf_counter() - began
    fill(mixture, size, retired=bool(gates))
    rng = np.random.default_rng(0)
    flying: list[int] = []
    times, cpu = [], []
    for version in range(10, 10 + draws + 5):
        began, cpu_began = time.perf_counter(), time.thread_time()
        drawn = mixture.sample(COUNT, version)
        times.append(1e3 * (time.perf_counter() - began))
        cpu.append(1e3 * (time.thread_time() - cpu_began))
        flying += drawn.tolist()
        for prompt in flying[: -4 * COUNT]:
            mixture.observe(group_of(prompt, version, rng))
        flying = flying[-4 * COUNT :]
    ones = []
    for _ in range(draws):
        began = time.perf_counter()
        (prompt,) = mixture.sample(1, version)
        ones.append(1e3 * (time.perf_counter() - began))
        mixture.abandoned(int(prompt))
    timed = times[5:]
    return {
        "choice": choice,
        "prompts": size,
        "ms": common.median(timed),
        "cpu_ms": common.median(cpu[5:]),
        "p99_ms": common.quantile(timed, 0.99),
        "one_ms": common.median(ones),
        "bytes": array_bytes(mixture) / size,
        "made_s": made_s,
    }


def fill(mixture: Mixture, size: int, *, retired: bool) -> None:
    """Evidence of one group for every other prompt, as if a run had been on for long."""
    seen = np.arange(0, size, 2)
    rng = np.random.default_rng(1)
    evidence = mixture._posterior.prompts
    evidence.wins[seen] = rng.integers(0, 9, len(seen))
    evidence.losses[seen] = 8 - evidence.wins[seen]
    mixture._last_drawn[seen] = 1
    mixture._num_seen = len(seen)
    if retired:
        for prompt in seen[: size // 10].tolist():
            mixture._roster.retire(prompt)


def group_of(prompt: int, version: int, rng: np.random.Generator) -> Outcome:
    right = int(rng.binomial(8, 0.25 * (prompt % 5)))
    share = right / 8
    return Outcome(
        prompt=prompt,
        successes=right,
        trials=8,
        version=version,
        zero_variance=right in (0, 8),
        abs_advantage=2 * share * (1 - share),
        reward=share,
    )


def array_bytes(thing: Any, seen: set[int] | None = None) -> int:
    """Of all arrays below an object of ours, each counted once."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        return thing.nbytes if thing.base is None else array_bytes(thing.base, seen)
    if isinstance(thing, list | tuple):
        return sum(array_bytes(item, seen) for item in thing)
    if type(thing).__module__.startswith("buffer."):
        fields = getattr(thing, "__dict__", {})
        return sum(array_bytes(item, seen) for item in fields.values())
    return 0


if __name__ == "__main__":
    sys.exit(main())
