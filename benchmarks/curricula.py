"""Curricula on a mix of which a third is solved, a third learnable and a third too hard at first.

    .venv/bin/python benchmarks/curricula.py [--seed 0] [--figure docs/curricula.svg] [--json]

Makes a cold start that solves sums of level 1, some of level 4 and hardly any of level 5, and
trains it under each curriculum for as many updates: held-out accuracy and the share of groups
without variance, against the tokens that were generated. One run each shows that each works, not
which is better.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import conditions, finish, parser, print_conditions, print_table
from curves import COLORS, figure

from async_r1.rows import level_accuracies
from async_r1.svg import Axes, Series
from async_r1.view import RunView

LEVELS = (1, 4, 5)
CURRICULA = ("uniform", "kimi_curriculum", "kimi_priority", "mixture")
WINDOW = 10  # versions over which shares are taken

# Careful solutions of short sums until they are right, then a glance at those of level 4.
PHASES = (
    "[{updates: 500, lr: 2e-3, batch_size: 32, warmup_updates: 20, levels: [1, 3],"
    " styles: {careful: 1.0}},"
    " {updates: 15, lr: 5e-4, batch_size: 32, warmup_updates: 5, levels: [1, 3, 4],"
    " styles: {careful: 1.0}}]"
)


def main() -> int:
    made = parser(__doc__)
    made.add_argument("--runs", type=Path, default=Path("runs/curricula"), help="kept here")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--updates", type=int, default=120)
    made.add_argument("--curricula", default=",".join(CURRICULA))
    made.add_argument(
        "--figure", type=Path, help="SVG file, drawn above its table of zero variance"
    )
    args = made.parse_args()
    if args.quick:
        args.updates = min(args.updates, 4)
    args.runs.mkdir(parents=True, exist_ok=True)
    facts = conditions(
        levels=list(LEVELS), updates=args.updates, seed=args.seed, groups_per_update=8, group_size=8
    )
    print_conditions(facts)
    results = {name: measure(run(args, name)) for name in args.curricula.split(",")}
    report(results)
    if args.figure:
        draw(args.figure, results)
    return finish(args, {**facts, "curricula": results})


def cold_start(runs: Path) -> Path:
    """The checkpoint that all runs start from; made once."""
    path = runs.resolve() / "cold_start"
    if not (path / "config.json").exists():
        options = ["experiment=nano_coldstart", f"sft.phases={PHASES}", f"sft.out={path}"]
        _command("sft", *options, f"run.dir={runs}", "task.levels=[1,3,4]")
    return path


def run(args: argparse.Namespace, name: str) -> RunView:
    """One run through the command line, unless the directory holds it already."""
    directory = args.runs / f"{name}-{args.seed}-{args.updates}"
    status = directory / "status.json"
    if not status.exists() or json.loads(status.read_text())["state"] != "finished":
        _command(
            "launch",
            "experiment=demo",
            f"curriculum={name}",
            f"model.path={'configs:checkpoints/nano' if args.quick else cold_start(args.runs)}",
            f"task.levels={list(LEVELS)}",
            "task.num_train=3000",
            "reward.format=0",  # whether a group has variance is then a matter of right and wrong
            "actors.rollout_token_budget=0",
            "staleness.eta=2",
            f"learner.num_updates={args.updates}",
            f"eval.every={2 if args.quick else 10}",
            f"task.num_eval={16 if args.quick else 192}",
            f"seed={args.seed}",
            f"run.dir={args.runs}",
            f"run.name={directory.name}",
        )
    view = RunView(directory)
    view.refresh()
    return view


def measure(view: RunView) -> dict[str, Any]:
    """Curves over generated tokens, and what the buffer's metrics say was drawn."""
    buffer = view.streams["buffer"]
    tokens_at = {0: 0, **{row["policy_version"]: row["tokens/received"] for row in buffer}}
    evals = [row for row in view.evals if row["policy_version"] in tokens_at]
    accuracy = [[tokens_at[row["policy_version"]], row["eval/accuracy"]] for row in evals]
    zero_variance = []
    for start in range(0, len(buffer), WINDOW):
        rows = buffer[start : start + WINDOW]
        closed = sum(row["groups/closed"] for row in rows)
        share = sum(row["groups/zero_variance"] for row in rows) / max(1, closed)
        zero_variance.append([rows[-1]["tokens/received"], share])
    last = buffer[-1]
    return {
        "accuracy": accuracy,
        "zero_variance": zero_variance,
        "levels": {
            level: [value for row in evals for at, value in level_accuracies(row) if at == level]
            for level, _ in level_accuracies(evals[-1])
        },
        "success": {
            name.removeprefix("curriculum/success/"): last[name]
            for name in sorted(last)
            if name.startswith("curriculum/success/")
        },
        "tokens": last["tokens/received"],
        "zero_variance_groups": sum(row["groups/zero_variance"] for row in buffer)
        / max(1, sum(row["groups/closed"] for row in buffer)),
        "tokens_trained": view.streams["learner"][-1]["tokens"],
        "wall_s": view.streams["learner"][-1]["wall_s"],
    }


def report(results: dict[str, dict[str, Any]]) -> None:
    """Tables over all runs."""
    levels = list(next(iter(results.values()))["levels"])
    header = ["curriculum", "tokens", "trained", "zero variance", "accuracy at 0", "at the end"]
    print_table(
        [*header, *(f"level {level}" for level in levels)],
        [
            [
                name,
                result["tokens"],
                result["tokens_trained"],
                result["zero_variance_groups"],
                result["accuracy"][0][1],
                result["accuracy"][-1][1],
                *(result["levels"][level][-1] for level in levels),
            ]
            for name, result in results.items()
        ],
    )
    budget = min(result["tokens"] for result in results.values())
    for title, key in (("held-out accuracy", "accuracy"), ("zero variance", "zero_variance")):
        shares = [0.25, 0.5, 0.75, 1.0]
        print_table(
            [f"{title} after", *(f"{share * budget / 1000:,.0f} k" for share in shares)],
            [
                [name, *(last_before(result[key], share * budget) for share in shares)]
                for name, result in results.items()
            ],
        )


def last_before(curve: Sequence[Sequence[float]], tokens: float) -> float | None:
    """The last value of a curve up to so many tokens."""
    return next((value for at, value in reversed(curve) if at <= tokens), None)


def draw(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Two figures: `path` of the accuracy, and beside it `…_zero_variance.svg`."""
    for key, label, target in (
        ("accuracy", "held-out accuracy", path),
        ("zero_variance", "groups without variance", path.with_stem(f"{path.stem}_zero_variance")),
    ):
        series = [
            Series(
                label=name,
                x=[tokens / 1000 for tokens, _ in result[key]],
                y=[value for _, value in result[key]],
                color=COLORS[index % len(COLORS)],
            )
            for index, (name, result) in enumerate(results.items())
        ]
        top = max(line.x[-1] for line in series)
        axes = Axes(
            x_label="thousand tokens generated", y_label=label, x_high=top, y_low=0.0, y_high=1.0
        )
        target.write_text(figure(label, series, axes))


def _command(name: str, *options: str) -> None:
    command = [sys.executable, "-m", "async_r1", name, *options, "logging.console=quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
