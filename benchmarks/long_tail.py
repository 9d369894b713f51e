"""Rollouts of lognormal length, with and without partial rollouts, in sync and async.

    .venv/bin/python benchmarks/long_tail.py [--median 128] [--sigma 1.0] [--top 2048] [--json]

Kimi k1.5 (arXiv 2501.12599, section 2.6.2) cuts long rollouts at a token budget and continues them
in later iterations, so that they do not hold up the short ones. Here every rollout gets a length of
its own, the same under every setting, and a random model that cannot end a completion by itself.
All else is real: launcher, actor, buffer, DeepSpeed learner (at a learning rate that changes
nothing) and the weights it publishes.

A partial rollout is carried into a later version, so with eta = 0 there is none: the nearest
synchronous setting is eta = 1.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import common


@dataclass(frozen=True)
class Setting:
    """One run."""

    name: str
    eta: int
    budget: int  # tokens of a lease; 0: no limit
    in_turns: bool = False


@dataclass(frozen=True)
class Result:
    """What one run did after its first draws; times in seconds."""

    sampled_per_s: float
    trained_per_s: float
    batch_s: float  # median time from one draw to the next
    batch_p90_s: float
    masked_frac: float  # of the tokens that left: trained by nobody, since overdue
    dropped_frac: float  # the same, since their group was dropped or they expired
    short_wait_s: float  # rollouts up to the median length, from finished to drawn, mean
    short_wait_p90_s: float
    long_wait_s: float  # those beyond four times the median
    leases: float  # of rollouts that train, mean
    staleness: float  # of trained tokens, mean

    @property
    def wasted_frac(self) -> float:
        return self.masked_frac + self.dropped_frac


def main() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("--median", type=float, default=128, help="of the lengths [tokens]")
    parser.add_argument("--sigma", type=float, default=1.0, help="deviation of their logarithm")
    parser.add_argument("--top", type=int, default=2048, help="longest rollout [tokens]")
    parser.add_argument("--budget", type=int, default=256, help="tokens of a partial lease")
    parser.add_argument("--eta", type=int, default=4, help="staleness bound of async")
    parser.add_argument("--concurrency", type=int, default=64, help="rollouts at a time")
    parser.add_argument("--groups", type=int, default=8, help="groups of 8 rollouts in a batch")
    parser.add_argument("--updates", type=int, default=18, help="steps of a run; half in sync")
    parser.add_argument("--skip", type=int, default=3, help="draws before counting starts")
    parser.add_argument("--seed", type=int, default=0, help="of the lengths")
    parser.add_argument("--runs", type=Path, help="keep the runs here, and use those there")
    args = parser.parse_args()
    if args.quick:
        args.median, args.top, args.budget = 24, 128, 32
        args.concurrency, args.groups, args.updates, args.skip = 16, 2, 6, 1
    facts = common.conditions(
        model="nano (0.8 M parameters, float32, random)",
        threads="sync 2 in turns, else 1 actor + 1 learner",
        learner="real, learning rate 1e-12",
        lengths=f"lognormal, median {args.median:g}, sigma {args.sigma:g}, 1 to {args.top}",
        concurrency=args.concurrency,
        batch=f"{args.groups} groups of 8",
        updates=args.updates,
    )
    common.print_conditions(facts)
    with tempfile.TemporaryDirectory() as temporary:
        base = args.runs or Path(temporary)
        base.mkdir(parents=True, exist_ok=True)
        model = base / "model"
        if not model.exists():
            common.endless_model(model, max_length=2 * args.top + 128)
        results = {setting: measure(args, setting, base, model) for setting in settings(args)}
    show(args, results)
    return common.finish(args, {"settings": as_json(results), "effects": effects(results), **facts})


def settings(args: Any) -> list[Setting]:
    return [
        Setting("sync", 0, 0, in_turns=True),
        Setting("one step off, whole", 1, 0),
        Setting("one step off, partial", 1, args.budget),
        Setting(f"async eta={args.eta}, whole", args.eta, 0),
        Setting(f"async eta={args.eta}, partial", args.eta, args.budget),
    ]


def measure(args: Any, setting: Setting, base: Path, model: Path) -> Result:
    """Run one setting and read what it left."""
    from runs import run

    updates = max(args.skip + 2, args.updates // 2) if setting.in_turns else args.updates
    lengths = [f"--median={args.median}", f"--sigma={args.sigma}", f"--top={args.top}"]
    own_buffer = Path(__file__).with_name("long_tail_buffer.py")
    directory = base / setting.name.replace(" ", "_").replace(",", "").replace("=", "")
    finished = run(
        directory,
        [
            "experiment=demo_sync" if setting.in_turns else "experiment=demo",
            f"model.path={model}",
            f"model.max_length={args.top + 128}",
            f"task.max_new_tokens={args.top}",
            "task.num_train=2000",
            f"actors.max_concurrent={args.concurrency}",
            "actors.segment_tokens=64",
            f"actors.rollout_token_budget={setting.budget}",
            "buffer.keep_zero_variance=true",
            f"learner.num_updates={updates}",
            f"learner.groups_per_update={args.groups}",
            "learner.lr=1e-12",
            "learner.warmup_updates=0",
            "learner.micro_batch_tokens=8192",
            f"staleness.eta={setting.eta}",
            "eval.every=0",
        ],
        commands={
            "buffer": [sys.executable, str(own_buffer), *lengths, f"--seed={args.seed}"],
        },
    )
    text = (directory / "long_tail.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    steps = finished.view.steps[args.skip :]
    tokens = sum(row["batch/num_tokens"] for row in steps)
    staleness = sum(row["staleness/mean"] * row["batch/num_tokens"] for row in steps) / tokens
    return summarize(rows, skip=args.skip, median=args.median, staleness=staleness)


def summarize(
    rows: Sequence[dict[str, Any]], *, skip: int, median: float, staleness: float
) -> Result:
    """The result of the draws after the first `skip`.

    Every token that was received is drawn, live, kept for a later draw, or gone: so what was
    dropped follows from the others.
    """
    first, last = rows[skip - 1], rows[-1]
    elapsed = last["at_s"] - first["at_s"]
    drawn = [rollout for row in rows[skip:] for rollout in row["drawn"]]
    tokens = sum(rollout[0] for rollout in drawn)
    trained = sum(rollout[1] for rollout in drawn)
    received = last["received"] - first["received"]
    dropped = received - tokens - (in_flight(last) - in_flight(first))
    gaps = [b["at_s"] - a["at_s"] for a, b in zip(rows[skip - 1 :], rows[skip:], strict=False)]
    short = [wait for length, _, wait, _ in drawn if length <= median]
    long = [wait for length, _, wait, _ in drawn if length > 4 * median]
    return Result(
        sampled_per_s=received / elapsed,
        trained_per_s=trained / elapsed,
        batch_s=common.median(gaps) or 0.0,
        batch_p90_s=common.quantile(gaps, 0.9) or 0.0,
        masked_frac=(tokens - trained) / (tokens + dropped),
        dropped_frac=dropped / (tokens + dropped),
        short_wait_s=sum(short) / max(1, len(short)),
        short_wait_p90_s=common.quantile(short, 0.9) or 0.0,
        long_wait_s=sum(long) / max(1, len(long)),
        leases=sum(rollout[3] for rollout in drawn) / max(1, len(drawn)),
        staleness=staleness,
    )


def in_flight(row: dict[str, Any]) -> int:
    """Tokens received that neither trained nor left: of live groups, and of groups kept."""
    return int(row["live"] + row["kept"])


def effects(results: dict[Setting, Result]) -> dict[str, float]:
    """What partial rollouts do: partial over whole, by staleness bound; and all over sync."""
    by_key = {(setting.eta, bool(setting.budget)): result for setting, result in results.items()}
    found = {}
    for eta in sorted({eta for eta, partial in by_key if partial}):
        whole, part = by_key[eta, False], by_key[eta, True]
        found[f"eta_{eta}_trained_ratio"] = part.trained_per_s / whole.trained_per_s
        found[f"eta_{eta}_batch_time_ratio"] = part.batch_s / whole.batch_s
        if whole.short_wait_s:
            found[f"eta_{eta}_short_wait_ratio"] = part.short_wait_s / whole.short_wait_s
        for name, result in (("whole", whole), ("partial", part)):
            ratio = result.trained_per_s / by_key[0, False].trained_per_s
            found[f"eta_{eta}_{name}_over_sync_trained_ratio"] = ratio
    return found


def as_json(results: dict[Setting, Result]) -> list[dict[str, Any]]:
    return [
        {**asdict(setting), **asdict(result), "wasted_frac": result.wasted_frac}
        for setting, result in results.items()
    ]


def show(args: Any, results: dict[Setting, Result]) -> None:
    header = ["", "sampled/s", "trained/s", "batch", "p90", "wasted", "masked", "dropped"]
    header += ["short waits", "p90", "long waits", "leases", "staleness"]
    rows = [
        [
            setting.name,
            *(result.sampled_per_s, result.trained_per_s),
            *(f"{result.batch_s:.1f} s", f"{result.batch_p90_s:.1f} s"),
            *(f"{x:.1%}" for x in (result.wasted_frac, result.masked_frac, result.dropped_frac)),
            *(f"{result.short_wait_s:.1f} s", f"{result.short_wait_p90_s:.1f} s"),
            f"{result.long_wait_s:.1f} s",
            *(f"{result.leases:.2f}", f"{result.staleness:.2f}"),
        ]
        for setting, result in results.items()
    ]
    common.print_table(header, rows)
    print(
        f"tokens/s; time from one batch to the next; wasted: share of the tokens that left\n"
        f"untrained, masked as overdue or dropped; waits: from a rollout's end to its draw,\n"
        f"short up to {args.median:g} tokens, long beyond {4 * args.median:g}.\n"
        f"sync has no partial form: a rollout carried into the next version is not on-policy.\n"
    )
    print("\nratios, partial over whole unless it says over sync:")
    for name, value in effects(results).items():
        print(f"  {name.replace('_', ' ').removesuffix(' ratio')}: {value:.2f}")


if __name__ == "__main__":
    sys.exit(main())
