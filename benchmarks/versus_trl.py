"""Wall-clock to a held-out accuracy: `async_r1` and TRL's `GRPOTrainer`, two cores each.

    .venv/bin/python benchmarks/versus_trl.py [--seeds 0,1,2] [--target 0.9] [--max-minutes 15]

Both start from the nano cold start and get the demo's prompts, reward, group size, batch, learning
rate of every step, clipping and temperature. TRL runs in an environment of its own, made at first
use, with Hugging Face generation, one GRPO update per batch, at its fastest micro-batch; `async_r1`
with whole rollouts and a small bound, since rollouts of 65 tokens gain nothing from suspension.

Time counts from the first sampling: starting up and measuring accuracy are left out on both
sides. TRL is measured every few steps with its clock stopped, `async_r1` afterwards from the
checkpoints of the same steps, by the same code (greedy, Hugging Face). Both interpolate between
measurements.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import common

PINS = ("torch==2.13.0+cpu", "trl==1.16.0", "transformers==5.19.0")
SIDE = Path(__file__).with_name("trl_side.py")
GOAL = 3.0
LIMIT = 6.0  # both cores busy with nothing but sampling and training (design figures)


def main() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("--seeds", default="0,1,2", help="seeds of both sides")
    parser.add_argument("--target", type=float, default=0.9, help="held-out accuracy")
    parser.add_argument("--updates", type=int, default=150, help="steps of the schedule")
    parser.add_argument("--every", type=int, default=5, help="steps between measurements")
    parser.add_argument("--max-minutes", type=float, default=15, help="of each TRL run")
    parser.add_argument("--eta", type=int, default=3, help="staleness bound of async_r1 [versions]")
    parser.add_argument("--micro-batch", type=int, default=0, help="of TRL; 0: calibrate")
    parser.add_argument("--env", type=Path, default=Path("~/.cache/async_r1/trl"), help="TRL's")
    parser.add_argument("--runs", type=Path, help="keep the runs here, and use those there")
    args = parser.parse_args()
    sizes = {"num_eval": 384, "groups": 8, "calibration_steps": 4}
    if args.quick:
        args.seeds, args.target, args.updates, args.every = "0", 0.0, 4, 2
        args.max_minutes, args.micro_batch = 1.0, args.micro_batch or 16
        sizes = {"num_eval": 8, "groups": 2, "calibration_steps": 2}
    with tempfile.TemporaryDirectory() as temporary:
        base = args.runs or Path(temporary)
        base.mkdir(parents=True, exist_ok=True)
        return compare(args, sizes, base)


def compare(args: Any, sizes: dict[str, int], base: Path) -> int:
    python = environment(args.env.expanduser())
    overrides = run_overrides(args, sizes)
    job = make_job(args, sizes, overrides)
    facts = common.conditions(
        trl=PINS[1].partition("==")[2],
        trl_threads=job["threads"],
        async_r1_threads="1 actor, 1 learner",
        async_r1_eta=args.eta,
        model="nano (0.8 M parameters, float32, shipped cold start)",
        batch=f"{sizes['groups']} prompts x {job['group_size']}",
        steps=args.updates,
        learning_rate=job["lr"],
        held_out=f"{sizes['num_eval']} prompts, greedy",
        target=args.target,
    )
    common.print_conditions(facts)
    job["micro_batch"], job["threads"], tried = choose_micro_batch(python, job, base, args)
    seeds: list[dict[str, Any]] = []
    for seed in map(int, args.seeds.split(",")):
        ours = async_side(args, overrides, python, job, base, seed)
        theirs = trl_side(python, {**job, "seed": seed}, base)
        seeds.append({"seed": seed, "async_r1": ours, "trl": theirs})
    show(args, seeds)
    ratio = common.ratio_of_medians(
        [row["trl"]["seconds"] for row in seeds], [row["async_r1"]["seconds"] for row in seeds]
    )
    explain(seeds, ratio)
    if ratio is None:
        print("time_ratio: none, some run did not reach the target in its time")
    else:
        verdict = "reached" if ratio >= GOAL else "MISSED"
        print(f"time_ratio {ratio:.2f}, at least {GOAL:g} wanted: {verdict}")
    result = {"time_ratio": ratio, "goal": GOAL, "limit": LIMIT, "seeds": seeds}
    return common.finish(args, {**result, "calibration": tried, **facts})


def environment(path: Path) -> Path:
    """Python of TRL's environment; makes it if it is not there (some minutes, a download)."""
    python, done = path / "bin/python", path / "pins.txt"
    if not done.exists() or done.read_text().split() != list(PINS):
        print(f"making TRL's environment in {path}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(path)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        # A CPU wheel of torch lies in PyTorch's own index, unless pip is told of another place.
        places: list[list[str]] = [[], ["--index-url", "https://download.pytorch.org/whl/cpu"]]
        if not any(subprocess.run([*install, *place, PINS[0]]).returncode == 0 for place in places):
            raise SystemExit(f"pip finds no {PINS[0]}; see its message above")
        subprocess.run([*install, *PINS], check=True)
        done.write_text("\n".join(PINS))
    return python


def run_overrides(args: Any, sizes: dict[str, int]) -> list[str]:
    return [
        "experiment=demo",
        "actors.rollout_token_budget=0",
        f"staleness.eta={args.eta}",
        f"learner.num_updates={args.updates}",
        f"learner.warmup_updates={min(5, args.updates // 2)}",
        f"learner.groups_per_update={sizes['groups']}",
        f"learner.checkpoint_every={args.every}",
        f"task.num_eval={sizes['num_eval']}",
        "eval.every=0",
    ]


def make_job(args: Any, sizes: dict[str, int], overrides: Sequence[str]) -> dict[str, Any]:
    """All that TRL's side needs to do the same work."""
    from greedy import prompts

    from async_r1.compose import compose
    from async_r1.config_dir import resolve_path
    from learner.schedule import factor

    config = compose(overrides)
    learner = config.learner
    batch = sizes["groups"] * config.buffer.group_size
    return {
        "model": resolve_path(config.model.path),
        "prompts": prompts(config, "train"),
        "held_out": prompts(config, "eval"),
        "groups": sizes["groups"],
        "group_size": config.buffer.group_size,
        "max_new_tokens": config.task.max_new_tokens,
        "temperature": config.actors.temperature,
        "reward": {"accuracy": config.reward.accuracy, "format": config.reward.format},
        "lr": learner.lr,
        "lr_factors": [
            factor(
                step,
                learner.num_updates,
                learner.warmup_updates,
                learner.lr_decay,
                learner.lr_min_frac,
            )
            for step in range(learner.num_updates)
        ],
        "betas": learner.betas,
        "grad_clip": learner.grad_clip,
        "max_steps": learner.num_updates,
        "every": args.every,
        "target": args.target,
        "max_minutes": args.max_minutes,
        "threads": len(os.sched_getaffinity(0)),
        "micro_batches": [size for size in (64, 32, 16, 8) if batch % size == 0],
        "calibration_steps": sizes["calibration_steps"],
        "seed": 0,
    }


def choose_micro_batch(
    python: Path, job: dict[str, Any], base: Path, args: Any
) -> tuple[int, int, list[dict[str, Any]]]:
    """TRL's fastest micro-batch and threads, and all that was tried."""
    if args.micro_batch:
        return args.micro_batch, job["threads"], []
    tried = list(side(python, "calibrate", job, base))
    common.print_table(
        ["TRL micro-batch", "threads", "seconds a step"],
        [[row["micro_batch"], row["threads"], row["step_s"]] for row in tried],
    )
    best = min(tried, key=lambda row: row["step_s"])
    return best["micro_batch"], best["threads"], tried


def trl_side(python: Path, job: dict[str, Any], base: Path) -> dict[str, Any]:
    """One TRL run, stopped once it reached the target; kept like those of `async_r1`."""
    kept = base / f"trl-{job['seed']}-{job['max_steps']}.json"
    found = json.loads(kept.read_text()) if kept.exists() else {}
    asked = json.loads(json.dumps(job))
    if found.get("asked") != asked:
        found = {"asked": asked, "rows": list(side(python, "train", job, base))}
        kept.write_text(json.dumps(found))
    rows = found["rows"]
    end = rows.pop()
    seconds = common.first_crossing([(r["seconds"], r["accuracy"]) for r in rows], job["target"])
    steps = common.first_crossing([(r["step"], r["accuracy"]) for r in rows], job["target"])
    curve = [[r["step"], r["seconds"], r["accuracy"]] for r in rows]
    return {"seconds": seconds, "steps": steps, "step_s": end["step_s"], "curve": curve}


def async_side(
    args: Any, overrides: Sequence[str], python: Path, job: dict[str, Any], base: Path, seed: int
) -> dict[str, Any]:
    """One run of ours, its checkpoints measured afterwards, and where its time went."""
    from activities import core_seconds, first_sampling_s, timed_checkpoints
    from runs import run

    finished = run(base / f"async-{seed}-{args.updates}", [*overrides, f"seed={seed}"])
    steps, began = finished.view.steps, first_sampling_s(finished)
    kept = [(0, 0.0, Path(job["model"])), *timed_checkpoints(finished)]
    # It ends with the first that reaches the target.
    found = side(python, "evaluate", job, base, *(str(path) for _, _, path in kept))
    curve = [
        [version, at_s, row["accuracy"]]
        for (version, at_s, _), row in zip(kept, found, strict=False)
    ]
    target = job["target"]
    return {
        "seconds": common.first_crossing([(at_s, a) for _, at_s, a in curve], target),
        "steps": common.first_crossing([(version, a) for version, _, a in curve], target),
        "step_s": (steps[-1]["wall_s"] - began) / len(steps),
        "curve": curve,
        "start_s": began,
        "core_seconds": core_seconds(finished),
    }


def side(
    python: Path, command: str, job: dict[str, Any], base: Path, *rest: str
) -> Iterator[dict[str, Any]]:
    """The answers of TRL's side; its log is in `base`."""
    path, log = base / f"{command}.json", base / f"{command}.log"
    path.write_text(json.dumps(job))
    threads = {name: str(job["threads"]) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    places = (str(common.ROOT), str(SIDE.parent))
    env = {**os.environ, **common.ONE_THREAD, **threads, "PYTHONPATH": os.pathsep.join(places)}
    with log.open("w") as errors:
        process = subprocess.Popen(
            [str(python), "-P", str(SIDE), command, str(path), *rest],
            env=env,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith('{"'):  # TRL prints mappings of its own, as Python writes them
                yield json.loads(line)
    if process.wait() != 0:
        raise SystemExit(f"TRL's side failed:\n{log.read_text()[-3000:]}")


def show(args: Any, seeds: Sequence[dict[str, Any]]) -> None:
    common.print_table(
        [f"to accuracy {args.target:g}", "async_r1", "TRL", "ratio", "steps", "TRL's steps"],
        [
            [
                f"seed {row['seed']}",
                *(row[name]["seconds"] for name in ("async_r1", "trl")),
                common.ratio_of_medians([row["trl"]["seconds"]], [row["async_r1"]["seconds"]]),
                *(row[name]["steps"] for name in ("async_r1", "trl")),
            ]
            for row in seeds
        ],
    )
    print("seconds from the first sampling, measurements and start-up left out\n")


def explain(seeds: Sequence[dict[str, Any]], ratio: float | None) -> None:
    """What stands between the ratio and the limit."""
    names = ("async_r1", "trl")
    step_s = {name: common.median(step_seconds(row[name]) for row in seeds) for name in names}
    assert step_s["async_r1"] and step_s["trl"]
    per_step = step_s["trl"] / step_s["async_r1"]
    print(
        f"a step: async_r1 {step_s['async_r1']:.2f} s, TRL {step_s['trl']:.2f} s: "
        f"{per_step:.2f} times as fast"
    )
    if ratio is not None:
        print(f"steps that each needs to learn the same: a factor of {ratio / per_step:.2f}")
    spent: dict[str, float] = {}
    for row in seeds:
        for name, value in row["async_r1"]["core_seconds"].items():
            spent[name] = spent.get(name, 0.0) + value
    useful = spent["sampling"] + spent["training"]
    total = sum(value for name, value in spent.items() if name != "start and end")
    busy = per_step * total / useful
    print(
        f"of async_r1's core-seconds {useful / total:.0%} are sampling and training; with both "
        f"cores at\nnothing else a step would be {busy:.1f} times as fast as TRL's (estimate of "
        f"the design: {LIMIT:g}). Between lie:"
    )
    common.print_table(
        ["core-seconds of async_r1", "all seeds", "share"],
        [
            [name, value, f"{value / total:.1%}"]
            for name, value in spent.items()
            if name != "start and end"
        ],
    )


def step_seconds(row: dict[str, Any]) -> float:
    """Of a step on the way to the target, or of any if it was not reached."""
    return float(row["seconds"] / row["steps"] if row["steps"] else row["step_s"])


if __name__ == "__main__":
    sys.exit(main())
