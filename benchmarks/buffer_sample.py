"""What a prioritized draw and its write-back cost, beside cpprb and a nano learner step.

    .venv/bin/python benchmarks/buffer_sample.py [--cpprb PYTHON] [--json]

Draws 64 of 10^4, 10^6 and 10^7 items and updates the priorities of those 64: ids (for cpprb,
indices) and importance weights come out, raw priorities go in. `both` alternates the two, as a run
does. cpprb's sum tree is C++, draws with replacement and has no uniform floor; ours is numpy, draws
without replacement with exact inclusion probabilities over a floor. cpprb is no dependency: for its
column make an environment of its own and name it,

    python3 -m venv /tmp/cpprb && /tmp/cpprb/bin/pip install cpprb
    .venv/bin/python benchmarks/buffer_sample.py --cpprb /tmp/cpprb/bin/python

`batch` is everything that the buffer does for a batch of the demo's size by priority, assembly of
its tokens and metrics included; `step` is one optimizer step of the nano model on such a batch.
Every side runs in a process of its own, one thread, in turn with the others. `batch` and `step` are
CPU time of their thread, so that what else the machine does lengthens neither.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import common

SIDES = Path(__file__).with_name("buffer_sample_sides.py")
MODEL = common.ROOT / "configs" / "checkpoints" / "nano"
LIMIT = 0.01  # of a nano step, for a draw and its write-back
TIMEOUT_S = 600.0
SIZES = (10**4, 10**6, 10**7)
CROSSOVER = (2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
DEMO = {"groups": 8, "group_size": 8, "tokens": 65}


def main() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("--cpprb", default="", help="a Python that has cpprb; empty: without it")
    parser.add_argument("--count", type=int, default=64, help="items of a draw")
    parser.add_argument(
        "--repeats", type=int, default=300, help="of each figure, which is a median"
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side; medians of them")
    args = parser.parse_args()
    sizes, crossover, steps = SIZES, CROSSOVER, 8
    if args.quick:
        sizes, crossover, steps = (10**4, 10**5), (10_000, 50_000), 2
        args.repeats, args.rounds = 20, 1
    facts = common.conditions(
        items_drawn=args.count, repeats=args.repeats, rounds=args.rounds, threads=1,
        model="nano (0.8 M parameters, float32)", **DEMO,
    )  # fmt: skip
    common.print_conditions(facts)
    return report(args, facts, measure(args, sizes, crossover, steps))


def measure(
    args: Any, sizes: tuple[int, ...], crossover: tuple[int, ...], steps: int
) -> dict[str, Any]:
    """Durations [us]: by size and side, of flat and tree by size, of a batch and of a step."""
    by_size: dict[int, dict[str, dict[str, float] | None]] = {}
    for size in sizes:
        job = {"size": size, "count": args.count, "repeats": args.repeats}
        rounds: list[tuple[dict[str, float], dict[str, float] | None]] = [
            (side("ours", job), side("cpprb", job, args.cpprb) if args.cpprb else None)
            for _ in range(args.rounds)
        ]
        by_size[size] = {
            "ours": medians([mine for mine, _ in rounds]),
            "cpprb": medians([other for _, other in rounds if other is not None]),
        }
    flat_and_tree = {}
    for size in crossover:
        job = {"size": size, "count": args.count, "repeats": args.repeats}
        flat_and_tree[size] = (side("flat", job)["both_us"], side("tree", job)["both_us"])
    batch = {**DEMO, "size": 4096 if not args.quick else 64, "repeats": args.repeats}
    step = {**DEMO, "model": str(MODEL), "repeats": steps}
    return {
        "by_size": by_size,
        "flat_and_tree": flat_and_tree,
        "batch_us": side("batch", batch)["batch_us"],
        "step_us": side("step", step)["step_us"],
    }


def report(args: Any, facts: dict[str, Any], found: dict[str, Any]) -> int:
    by_size, step_us = found["by_size"], found["step_us"]
    rows = []
    for size, both in by_size.items():
        mine, other = both["ours"], both["cpprb"] or {}
        ratio = mine["both_us"] / other["both_us"] if other else None
        rows.append(
            [f"{size:,} items"]
            + [side.get(name) for name in ("draw_us", "update_us", "both_us") for side in
               (mine, other)]
            + [ratio]
        )  # fmt: skip
    header = ["us, ours and cpprb", "draw", "cpprb", "update", "cpprb", "both", "cpprb", "ratio"]
    common.print_table(header, rows)
    common.print_table(
        ["us, draw and update", "flat", "tree"],
        [[f"{size:,} items", *pair] for size, pair in found["flat_and_tree"].items()],
    )
    reference = 10**6 if 10**6 in by_size else max(by_size)
    mine, other = by_size[reference]["ours"], by_size[reference]["cpprb"]
    fraction = mine["both_us"] / step_us
    common.print_table(
        ["ms", "", "of a step"],
        [
            [f"draw and update, {reference:,} items", mine["both_us"] / 1e3, fraction],
            ["whole batch, 4,096 groups", found["batch_us"] / 1e3, found["batch_us"] / step_us],
            ["nano learner step", step_us / 1e3, 1.0],
        ],
    )
    if not args.cpprb:
        print("cpprb was not measured: --cpprb PYTHON names an environment that has it (see above)")
    print(f"a draw and its write-back: {100 * fraction:.2f} % of a nano step (at most 1 % wanted)")
    return common.finish(
        args,
        {
            **facts,
            "vs_cpprb_1e6": mine["both_us"] / other["both_us"] if other else None,
            "fraction_of_step": fraction,
            "fraction_of_step_batch": found["batch_us"] / step_us,
            "limit": LIMIT,
            "us": {str(size): both for size, both in by_size.items()},
            "crossover_us": {str(size): pair for size, pair in found["flat_and_tree"].items()},
            "batch_us": found["batch_us"],
            "step_us": step_us,
        },
    )


def side(name: str, job: dict[str, Any], python: str = sys.executable) -> dict[str, float]:
    """One side in a process of its own.

    Raises:
        SystemExit: it failed; the message is what it said.
    """
    env = {**os.environ, **common.ONE_THREAD, "PYTHONPATH": str(common.ROOT)}
    env["DS_ACCELERATOR"] = "cpu"
    if python != sys.executable:
        del env["PYTHONPATH"]
    command = [python, str(SIDES), name, json.dumps(job)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIMEOUT_S)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise SystemExit(f"{name} of {python} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(lines[-1]))


def medians(rounds: list[dict[str, float]]) -> dict[str, float] | None:
    if not rounds:
        return None
    return {name: common.median(found[name] for found in rounds) or 0.0 for name in rounds[0]}


if __name__ == "__main__":
    sys.exit(main())
