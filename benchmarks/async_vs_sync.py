"""The demo in async and in sync mode: time to a held-out accuracy, tokens per second, core-seconds.

    .venv/bin/python benchmarks/async_vs_sync.py [--seeds 0,1,2] [--target 0.9] [--calibrate]

Both modes take the same seeds, prompts, steps and rollouts a step, and the cores in their own way:
async keeps an actor on one half and the learner on the other; sync has all of them in turns and may
use them as one actor of several threads or as several actors. `--calibrate` tries the layouts for a
few steps each and takes each mode's fastest; without it those that a calibration on two cores chose
are taken.

Accuracy is measured afterwards, from checkpoints (greedy, Hugging Face): no run pays for it. The
time runs from the first sampling to the version that had it, read off the rising curve nearest
to the measurements, so that a lucky one does not count as having arrived.
"""

import itertools
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import common

GOAL = 1.5
SINGLE = ("env", "OMP_NUM_THREADS=1", "MKL_NUM_THREADS=1")


@dataclass(frozen=True)
class Layout:
    """How a mode uses two cores."""

    name: str
    overrides: tuple[str, ...] = ()
    wrapper: dict[str, tuple[str, ...]] = field(default_factory=dict)  # before a role's command
    threads: dict[str, int] = field(default_factory=dict)  # of a role, if not the launcher's


LAYOUTS = {
    "async": {
        "1+1": Layout("1 actor thread, 1 learner thread"),
        "1+1 wide": Layout(
            "1 actor thread with 128 rollouts, 1 learner thread", ("actors.max_concurrent=128",)
        ),
        "2+1": Layout("2 actors of 1 thread, 1 learner thread", ("actors.count=2",)),
    },
    "sync": {
        "2/2": Layout("2 actor threads, 2 learner threads"),
        "1/2": Layout(
            "1 actor thread, 2 learner threads", wrapper={"actor": SINGLE}, threads={"actor": 1}
        ),
        "1/1": Layout("1 actor thread, 1 learner thread", ("run.num_cores=1",)),
        "1+1/2": Layout("2 actors of 1 thread, 2 learner threads", ("actors.count=2",)),
    },
}


EFFICIENCY = {
    "sampled_per_core_s": "tokens sampled per core-second of the engine",
    "rollouts_per_engine_step": "rollouts that an engine step advances, of each actor",
    "trained_per_core_s": "tokens trained per core-second of training",
}


def main() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("--seeds", default="0,1,2", help="of the runs")
    parser.add_argument(
        "--budget",
        type=int,
        default=0,
        help="actors.rollout_token_budget; rollouts of 65 tokens gain nothing from suspension, and "
        "every continuation computes its context again",
    )
    parser.add_argument("--target", type=float, default=0.9, help="held-out accuracy")
    parser.add_argument("--updates", type=int, default=100, help="steps of a run")
    parser.add_argument("--eta", type=int, default=3, help="staleness bound in async mode")
    parser.add_argument("--every", type=int, default=5, help="versions between measurements")
    parser.add_argument("--num-eval", type=int, default=384, help="held-out prompts")
    parser.add_argument("--calibrate", action="store_true", help="find each mode's layout")
    parser.add_argument("--calibrate-updates", type=int, default=30, help="steps of each trial")
    parser.add_argument("--async-layout", choices=LAYOUTS["async"], default="1+1")
    parser.add_argument("--sync-layout", choices=LAYOUTS["sync"], default="1+1/2")
    parser.add_argument("--runs", type=Path, help="keep the runs here, and use those there")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.target, args.updates = "0", 0.0, 4
        args.every, args.num_eval, args.calibrate_updates = 2, 8, 4
    with tempfile.TemporaryDirectory() as temporary:
        base = args.runs or Path(temporary)
        base.mkdir(parents=True, exist_ok=True)
        return compare(args, base)


def compare(args: Any, base: Path) -> int:
    facts = common.conditions(
        model="nano (0.8 M parameters, float32, shipped cold start)",
        preset="demo, demo_sync",
        steps=args.updates,
        eta=f"{args.eta} in async, 0 in sync",
        lease_budget=args.budget or "none",
        accuracy=f"every {args.every} versions, {args.num_eval} prompts, greedy",
        target=args.target,
        seeds=args.seeds,
    )
    common.print_conditions(facts)
    chosen = {"async": args.async_layout, "sync": args.sync_layout}
    calibration: list[dict[str, Any]] = []
    if args.calibrate:
        calibration, chosen = calibrate(args, base)
    for mode, name in chosen.items():
        print(f"{mode}: {LAYOUTS[mode][name].name}")
    print()
    measured: dict[str, list[dict[str, Any]]] = {"async": [], "sync": []}
    for seed in map(int, args.seeds.split(",")):
        for mode, name in chosen.items():
            measured[mode].append(
                measure(args, base, mode, LAYOUTS[mode][name], seed=seed, updates=args.updates)
            )
    found = {
        "time_ratio": over(measured, "sync", "async", "to_target_s"),
        "time_ratio_from_launch": over(measured, "sync", "async", "to_target_from_launch_s"),
        "tokens_ratio": over(measured, "async", "sync", "trained_per_s"),
        "goal": GOAL,
    }
    show_seeds(args, measured)
    show_activities(measured)
    explain(measured, found)
    layouts = {f"{mode}_layout": LAYOUTS[mode][name].name for mode, name in chosen.items()}
    return common.finish(
        args, {**found, **layouts, "calibration": calibration, "runs": measured, **facts}
    )


def over(measured: dict[str, list[dict[str, Any]]], above: str, below: str, name: str) -> Any:
    return common.ratio_of_medians(
        [row[name] for row in measured[above]], [row[name] for row in measured[below]]
    )


def calibrate(args: Any, base: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Steady seconds of a step of every layout, and each mode's fastest."""
    tried = []
    for mode, layouts in LAYOUTS.items():
        for name, layout in layouts.items():
            updates = args.calibrate_updates
            row = measure(args, base, mode, layout, seed=0, updates=updates, accuracy=False)
            tried.append({"mode": mode, "layout": name, "step_s": row["steady_step_s"]})
    common.print_table(
        ["layout", "mode", "seconds a step"],
        [[LAYOUTS[row["mode"]][row["layout"]].name, row["mode"], row["step_s"]] for row in tried],
    )
    best = {
        mode: min((r for r in tried if r["mode"] == mode), key=lambda r: r["step_s"])["layout"]
        for mode in LAYOUTS
    }
    return tried, best


def measure(
    args: Any,
    base: Path,
    mode: str,
    layout: Layout,
    *,
    seed: int,
    updates: int,
    accuracy: bool = True,
) -> dict[str, Any]:
    """One run and its numbers; without `accuracy` nothing about its curve."""
    from activities import core_seconds, first_sampling_s
    from runs import run

    from async_r1.averages import mean_of, time_weighted_mean
    from async_r1.summary import summarize

    name = layout.name.replace(" ", "_").replace(",", "")
    eta = 0 if mode == "sync" else args.eta
    finished = run(
        base / f"{mode}-{name}-{seed}-{updates}-{args.budget}-{eta}",
        [
            "experiment=demo_sync" if mode == "sync" else "experiment=demo",
            f"seed={seed}",
            f"learner.num_updates={updates}",
            f"learner.warmup_updates={min(5, updates // 2)}",
            f"learner.checkpoint_every={args.every}",
            "eval.every=0",
            f"task.num_eval={args.num_eval}",
            f"actors.rollout_token_budget={args.budget}",
            f"staleness.eta={eta}",
            *layout.overrides,
        ],
        wrapper=layout.wrapper,
    )
    view, summary, steps = finished.view, summarize(finished.view), finished.view.steps
    began = first_sampling_s(finished)
    curve = accuracy_curve(finished, args.target) if accuracy else []
    levels = common.rising([row[2] for row in curve])
    at_s, versions = (
        common.first_crossing(
            [(row[i], level) for row, level in zip(curve, levels, strict=True)], args.target
        )
        for i in (1, 0)
    )
    elapsed = steps[-1]["wall_s"] - began
    spent = core_seconds(finished, layout.threads)
    return {
        "seed": seed,
        "to_target_s": at_s,
        "to_target_from_launch_s": None if at_s is None else at_s + began,
        "to_target_versions": versions,
        "last_accuracy": curve[-1][2] if curve else None,
        "staleness": summary.staleness_mean,
        "step_s": elapsed / len(steps),
        "steady_step_s": steady_step_s([row["wall_s"] for row in steps]),
        "trained_per_s": steps[-1]["tokens"] / elapsed,
        "sampled_per_s": (summary.tokens_sampled or 0.0) / elapsed,
        "tokens_trained": steps[-1]["tokens"],
        "actor_idle_frac": summary.actor_idle_frac,
        "learner_idle_frac": summary.learner_idle_frac,
        "wall_s": view.recorded_s,
        "start_s": began,
        "curve": curve,
        "core_seconds": spent,
        "sampled_per_core_s": (summary.tokens_sampled or 0.0)
        / (spent["sampling"] + spent["evaluating"]),
        "trained_per_core_s": steps[-1]["tokens"] / spent["training"],
        "rollouts_per_engine_step": mean_of(
            time_weighted_mean(rows, "actor/batch_size") for rows in view.actors.values()
        ),
        "cpu_s": finished.costs.cpu_s,
    }


def accuracy_curve(finished: Any, target: float) -> list[list[float]]:
    """[version, seconds, accuracy] of the checkpoints, until two in a row reach the target; then
    of the last one."""
    import torch
    from activities import timed_checkpoints
    from greedy import accuracies, prompts

    from async_r1.compose import compose
    from async_r1.config_dir import resolve_path

    config = compose(finished.overrides)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    kept = [(0, 0.0, Path(resolve_path(config.model.path))), *timed_checkpoints(finished)]
    measured = accuracies(
        [path for _, _, path in kept], prompts(config, "eval"), config.task.max_new_tokens
    )
    curve: list[list[float]] = []
    for (version, at_s, _), accuracy in zip(kept, measured, strict=True):
        curve.append([version, at_s, accuracy])
        if len(curve) > 1 and min(curve[-1][2], curve[-2][2]) >= target:
            break
    if len(curve) < len(kept):
        version, at_s, path = kept[-1]
        (last,) = accuracies([path], prompts(config, "eval"), config.task.max_new_tokens)
        curve.append([version, at_s, last])
    return curve


def steady_step_s(ends: Sequence[float]) -> float:
    """Median time from one step's end to the next, of the second half of the steps."""
    half = ends[max(0, len(ends) // 2 - 1) :]
    gaps = [after - before for before, after in itertools.pairwise(half)]
    return common.median(gaps) or 0.0


def show_seeds(args: Any, measured: dict[str, list[dict[str, Any]]]) -> None:
    header = ["", f"to {args.target:g}", "versions", "last", "a step", "trained/s", "sampled/s"]
    header += ["staleness", "actor idle", "learner idle"]
    rows = []
    for mode, found in measured.items():
        for row in found:
            rows.append(
                [
                    f"{mode}, seed {row['seed']}",
                    "-" if row["to_target_s"] is None else f"{row['to_target_s']:.1f} s",
                    row["to_target_versions"],
                    row["last_accuracy"],
                    f"{row['step_s']:.2f} s",
                    *(row["trained_per_s"], row["sampled_per_s"], row["staleness"]),
                    *(f"{row[n]:.1%}" for n in ("actor_idle_frac", "learner_idle_frac")),
                ]
            )
    common.print_table(header, rows)


def show_activities(measured: dict[str, list[dict[str, Any]]]) -> None:
    """Core-seconds by activity, and the processor time of each kind of process."""
    spent = {mode: entry_means(found, "core_seconds") for mode, found in measured.items()}
    totals = {mode: sum(values.values()) for mode, values in spent.items()}
    common.print_table(
        ["core-seconds of a run (mean)", "async", "share", "sync", "share"],
        [
            [name, *columns(spent, totals, name)]
            for name in [*spent["async"], *(n for n in spent["sync"] if n not in spent["async"])]
        ]
        + [["cores x wall-clock", totals["async"], "", totals["sync"], ""]],
    )
    cpu = {mode: entry_means(found, "cpu_s") for mode, found in measured.items()}
    common.print_table(
        ["processor time (mean)", "async", "share", "sync", "share"],
        [[name, *columns(cpu, totals, name)] for name in sorted({*cpu["async"], *cpu["sync"]})],
    )


def columns(spent: dict[str, dict[str, float]], totals: dict[str, float], name: str) -> list[Any]:
    cells: list[Any] = []
    for mode, values in spent.items():
        value = values.get(name, 0.0)
        cells += [value, f"{value / totals[mode]:.1%}"]
    return cells


def entry_means(rows: Sequence[dict[str, Any]], name: str) -> dict[str, float]:
    """The mean of each entry of a mapping over rows; an absent one counts as 0."""
    keys = list(dict.fromkeys(key for row in rows for key in row[name]))
    return {key: sum(row[name].get(key, 0.0) for row in rows) / len(rows) for key in keys}


def explain(measured: dict[str, list[dict[str, Any]]], found: dict[str, Any]) -> None:
    """The figure, and what makes it."""
    step_s = {mode: common.median(row["step_s"] for row in rows) for mode, rows in measured.items()}
    assert step_s["async"] and step_s["sync"]
    per_step = step_s["sync"] / step_s["async"]
    print(
        f"a step takes {step_s['sync']:.2f} s in sync, {step_s['async']:.2f} s in async: a factor "
        f"of {per_step:.2f}"
    )
    if found["time_ratio"] is None:
        print("time_ratio: none, some run did not reach the accuracy")
    else:
        print(
            f"versions that each needs to reach the accuracy: a factor of "
            f"{found['time_ratio'] / per_step:.2f} (below 1: staleness costs)"
        )
    useful, held = {}, {}
    for mode, rows in measured.items():
        spent = entry_means(rows, "core_seconds")
        useful[mode] = spent["sampling"] + spent["training"]
        held[mode] = sum(v for name, v in spent.items() if name != "start and end")
        print(
            f"{mode}: {useful[mode] / held[mode]:.0%} of the core-seconds after the start are "
            f"sampling and training"
        )
    work = useful["sync"] / useful["async"]
    print(
        f"that work costs {work:.2f} times as many core-seconds in sync as in async, from how well "
        f"a core is used:\n"
    )
    common.print_table(
        ["median", *measured],
        [
            [title, *(common.median(row[name] for row in rows) for rows in measured.values())]
            for name, title in EFFICIENCY.items()
        ],
    )
    if found["time_ratio"] is not None:
        verdict = "reached" if found["time_ratio"] >= GOAL else "missed"
        print(f"time_ratio {found['time_ratio']:.2f}, goal {GOAL}: {verdict}")
    print(f"tokens_ratio {found['tokens_ratio']:.2f}")


if __name__ == "__main__":
    sys.exit(main())
