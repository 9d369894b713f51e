"""The demo over several seeds against its bars; a table, and the curves for the README.

    .venv/bin/python benchmarks/demo_seeds.py [--seeds 0,1,2] [--runs DIR] [--json FILE]
        [--figure docs/demo_curves.svg]

The baseline is measured in the same way: the cold start's accuracy when made to answer carefully.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from curves import accuracy_figure

from async_r1.summary import summarize
from async_r1.view import RunView

UNSEEN = ("eval/accuracy/level_4", "eval/accuracy/level_5")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--runs", type=Path, default=Path("runs/demo_seeds"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    careful = unseen(run(args.runs, "demo_careful", 0).evals[0])
    results = [
        {"seed": seed, **measure(run(args.runs, "demo", seed))}
        for seed in map(int, args.seeds.split(","))
    ]
    report = {"careful_unseen": careful, "seeds": results}
    print_table(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    if args.figure:
        lines = {f"seed {result['seed']}": result["curve"] for result in results}
        args.figure.write_text(accuracy_figure("Held-out accuracy of the demo", lines))
    return 0


def run(runs: Path, experiment: str, seed: int) -> RunView:
    """One run through the command line, unless the directory holds it already."""
    directory = runs / f"{experiment}-{seed}"
    status = directory / "status.json"
    if not status.exists() or json.loads(status.read_text())["state"] != "finished":
        command = [sys.executable, "-m", "async_r1", "launch", f"experiment={experiment}"]
        options = [f"seed={seed}", f"run.dir={runs}", f"run.name={directory.name}"]
        subprocess.run(
            [*command, *options, "logging.console=quiet"], check=True, stdout=subprocess.DEVNULL
        )
    view = RunView(directory)
    view.refresh()
    return view


def measure(view: RunView) -> dict[str, Any]:
    """The numbers of the bars."""
    summary = summarize(view)
    assert summary.first_eval is not None and summary.last_eval is not None
    return {
        "first": summary.first_eval["eval/accuracy"],
        "last": summary.last_eval["eval/accuracy"],
        "last_unseen": unseen(summary.last_eval),
        "staleness_mean": summary.staleness_mean,
        "bound_kept": summary.bound_kept,
        "three_versions_frac": summary.three_versions_frac,
        "actor_idle_frac": summary.actor_idle_frac,
        "learner_idle_frac": summary.learner_idle_frac,
        "sampled_per_s": summary.sampled_per_s,
        "wall_s": summary.wall_s,
        "length": [summary.length_first, summary.length_last],
        "curve": [[row["policy_version"], row["eval/accuracy"]] for row in view.evals],
    }


def unseen(row: dict[str, Any]) -> float:
    """Accuracy on the levels that the cold start never saw."""
    return sum(float(row[name]) for name in UNSEEN) / len(UNSEEN)


def print_table(report: dict[str, Any]) -> None:
    """The results with the conditions they were measured under."""
    print(f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores")
    print("seed  accuracy       unseen levels  stale  3+ versions  actor idle  bound  wall")
    for result in report["seeds"]:
        print(
            f"{result['seed']:4}  {result['first']:.3f} → {result['last']:.3f}  "
            f"{result['last_unseen']:13.3f}  {result['staleness_mean']:5.2f}  "
            f"{result['three_versions_frac']:11.0%}  {result['actor_idle_frac']:10.1%}  "
            f"{'kept' if result['bound_kept'] else 'BROKEN':6} {result['wall_s']:4.0f} s"
        )
    print(f"cold start made to answer carefully, unseen levels: {report['careful_unseen']:.3f}")


if __name__ == "__main__":
    sys.exit(main())
