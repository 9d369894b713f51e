"""Which charts a report has and which rows each of them draws."""

from async_r1.averages import mean_of
from async_r1.chart import (
    Chart,
    Line,
    actor_series,
    buffer_metric,
    eval_metric,
    metric,
    smooth,
)
from async_r1.rows import exceeding_bound, level_accuracies, position
from async_r1.svg import LineStyle
from async_r1.view import SMOOTHING_STEPS, RunView

# One meaning, one colour, in every chart. Values are CSS variables of assets/report.css.
POLICY, ACTOR, LEARNER = "var(--blue)", "var(--blue)", "var(--orange)"
HELD_OUT, LIMIT, OTHER = "var(--green)", "var(--red)", "var(--grey)"
_LEVELS = tuple(f"var(--level-{i})" for i in range(1, 7))  # light to dark: levels have an order


def charts(view: RunView) -> list[Chart]:
    """Every chart, in the order of the page."""
    return [*_outcome(view), *_system(view), *_off_policy(view), *_buffer(view)]


def _outcome(view: RunView) -> list[Chart]:
    reward = metric(view, "reward/mean")
    levels = sorted({level for row in view.evals for level, _ in level_accuracies(row)})
    return [
        Chart(
            name="reward",
            title="Reward",
            note="mean over all closed groups",
            y_label="reward",
            lines=[
                Line(label="per step", points=reward, color=POLICY, style="faint"),
                Line(label=f"mean of {SMOOTHING_STEPS}", points=smooth(reward), color=POLICY),
            ],
        ),
        Chart(
            name="accuracy",
            title="Held-out accuracy",
            note="prompts that never train; the band is the 95 % interval",
            y_label="accuracy",
            y_low=0.0,
            y_high=1.0,
            lines=[
                Line(
                    label="sampled, training prompts",
                    points=smooth(metric(view, "accuracy/mean")),
                    color=POLICY,
                ),
                Line(
                    label="held out",
                    points=eval_metric(view, "eval/accuracy"),
                    color=HELD_OUT,
                    style="dots",
                    margin=[row.get("eval/accuracy/ci95") for row in view.evals],
                ),
            ],
        ),
        Chart(
            name="accuracy-by-level",
            title="Held-out accuracy by level",
            note="the lowest level is the easiest",
            y_label="accuracy",
            y_low=0.0,
            y_high=1.0,
            lines=[
                Line(
                    label=f"level {level}",
                    points=eval_metric(view, f"eval/accuracy/level_{level}"),
                    color=_LEVELS[i % len(_LEVELS)],
                    style="dots",
                )
                for i, level in enumerate(levels)
            ],
        ),
        Chart(
            name="length",
            title="Completion length",
            note="of the rollouts trained at a step",
            y_label="tokens",
            y_low=0.0,
            lines=[
                _learner(view, "completion_length/max", "longest", OTHER),
                _learner(view, "completion_length/p90", "90th percentile", LEARNER),
                _learner(view, "completion_length/mean", "mean", POLICY),
            ],
        ),
    ]


def _system(view: RunView) -> list[Chart]:
    return [
        Chart(
            name="staleness",
            title="Staleness",
            note="version at which a token trains minus the one that sampled it",
            y_label="versions",
            y_low=0.0,
            lines=[
                _learner(view, "staleness/mean", "mean", POLICY),
                _learner(view, "staleness/max", "max", LEARNER),
                _learner(view, "staleness/bound", "bound", LIMIT, "dashed"),
                *_over_bound(view),
            ],
        ),
        Chart(
            name="idle",
            title="Idle time",
            note="share of its time that a role waits",
            y_label="fraction",
            y_low=0.0,
            lines=[
                Line(
                    label="actors, mean",
                    points=actor_series(view, "actor/idle_frac", mean_of),
                    color=ACTOR,
                ),
                _learner(view, "learner/idle_frac", "learner", LEARNER),
            ],
        ),
        Chart(
            name="throughput",
            title="Throughput",
            note="sampled by all actors together, and trained",
            y_label="tokens/s",
            y_low=0.0,
            lines=[
                Line(
                    label="sampled",
                    points=actor_series(view, "perf/tokens_per_s", sum),
                    color=ACTOR,
                ),
                _learner(view, "perf/tokens_per_s", "trained", LEARNER),
            ],
        ),
        Chart(
            name="versions",
            title="Rollouts of three versions or more",
            note="share of the trained rollouts that two weight updates or more reached",
            y_label="fraction",
            y_low=0.0,
            lines=[
                _learner(view, "versions_per_rollout/three_or_more_frac", "three or more", POLICY)
            ],
        ),
    ]


def _off_policy(view: RunView) -> list[Chart]:
    return [
        Chart(
            name="ess",
            title="Effective sample size",
            note="of the importance ratios; 1 is on-policy",
            y_label="fraction",
            y_high=1.0,
            lines=[_learner(view, "ratio/ess", "ESS", POLICY)],
        ),
        Chart(
            name="mismatch-kl",
            title="Mismatch KL",
            note="behaviour policy against the one that trains, k3 estimate",
            y_label="nats per token",
            y_low=0.0,
            lines=[_learner(view, "mismatch_kl/mean", "KL", POLICY)],
        ),
        Chart(
            name="entropy",
            title="Entropy",
            note="of the policy that trains, on the tokens of the batch",
            y_label="nats per token",
            y_low=0.0,
            lines=[_learner(view, "entropy/mean", "entropy", POLICY)],
        ),
        Chart(
            name="left-out",
            title="Left out",
            note="groups with equal rewards throughout; rollouts cut at the length limit",
            y_label="fraction",
            y_low=0.0,
            lines=[
                _learner(view, "reward/zero_std_frac", "groups without variance", POLICY),
                _learner(view, "completion_length/clip_frac", "cut rollouts", LEARNER),
            ],
        ),
    ]


def _buffer(view: RunView) -> list[Chart]:
    prefix = "curriculum/success/level_"
    rows = view.streams.get("buffer", [])
    levels = sorted({int(name[len(prefix) :]) for r in rows for name in r if _has(name, prefix)})
    limit = view.option("buffer.selection_ks_warn")
    by_length = buffer_metric(view, "selection/ks_length/with_variance")
    replay = buffer_metric(view, "buffer/samples_per_insert")
    target = view.option("buffer.samples_per_insert")
    return [
        Chart(
            name="success",
            title="Success by level",
            note="the curriculum's estimate for the training prompts",
            y_label="success rate",
            y_low=0.0,
            y_high=1.0,
            lines=[
                Line(
                    label=f"level {level}",
                    points=buffer_metric(view, f"{prefix}{level}"),
                    color=_LEVELS[i % len(_LEVELS)],
                )
                for i, level in enumerate(levels)
            ],
        ),
        Chart(
            name="selection",
            title="Selection bias",
            note="distance of what trains to what is generated, groups with variance",
            y_label="Kolmogorov-Smirnov",
            y_low=0.0,
            lines=[
                Line(label="by length", points=by_length, color=POLICY),
                _kept(view, "selection/ks_tokens", "by length, tokens", LEARNER),
                _kept(view, "selection/ks_level", "by level", HELD_OUT),
                Line(
                    label="warns above",
                    points=[p._replace(value=limit) for p in by_length if limit is not None],
                    color=LIMIT,
                    style="dashed",
                ),
            ],
        ),
        Chart(
            name="admission",
            title="Held back",
            note="time in which the staleness bound admitted no group though a slot was free",
            y_label="fraction",
            y_low=0.0,
            lines=[
                Line(
                    label="admission blocked",
                    points=smooth(buffer_metric(view, "admission/blocked_frac")),
                    color=POLICY,
                )
            ],
        ),
        Chart(
            name="replay",
            title="Replay",
            note="draws per inserted group or rollout",
            y_label="samples per insert",
            y_low=0.0,
            lines=[
                Line(label="so far", points=replay, color=POLICY),
                Line(
                    label="target",
                    points=[p._replace(value=target) for p in replay if target is not None],
                    color=OTHER,
                    style="dashed",
                ),
            ],
        ),
    ]


def _has(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and name[len(prefix) :].isdecimal()


def _kept(view: RunView, name: str, label: str, color: str) -> Line:
    return Line(label=label, points=buffer_metric(view, f"{name}/with_variance"), color=color)


def _over_bound(view: RunView) -> list[Line]:
    steps = {position(row) for row in exceeding_bound(view.steps)}
    points = [point for point in metric(view, "staleness/max") if point.step in steps]
    return [Line(label="over the bound", points=points, color=LIMIT, style="dots")] if steps else []


def _learner(view: RunView, name: str, label: str, color: str, style: LineStyle = "line") -> Line:
    return Line(label=label, points=metric(view, name), color=color, style=style)
