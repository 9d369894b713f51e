"""Every metric that a row can hold, with its unit and meaning: the source of docs/metrics.md.

A name with a part in <> stands for a family: `accuracy/level_<level>` is one metric per level.
A test compares the names with the rows of a real run, so that neither goes without the other.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Metric:
    """One metric or family of metrics."""

    name: str
    unit: str  # "" for pure numbers
    doc: str


AXES = (
    Metric("wall_s", "s", "since the launch"),
    Metric("step", "", "optimizer steps done"),
    Metric("policy_version", "", "of the policy; in eval rows the lowest that sampled"),
    Metric("tokens", "tokens", "trained so far"),
)

LEARNER = (
    Metric("batch/num_groups", "groups", "in the batch"),
    Metric("batch/num_rollouts", "rollouts", "in the batch"),
    Metric("batch/num_tokens", "tokens", "of completions in the batch, masked ones included"),
    Metric("reward/mean", "", "total reward of the trained rollouts"),
    Metric("reward/std", "", "its standard deviation"),
    Metric("reward/zero_std_frac", "share", "of closed groups whose rewards were all equal"),
    Metric("reward/<term>/mean", "", "one term before its weight, closed groups, untrained too"),
    Metric("accuracy/mean", "share", "of right answers in closed groups, untrained ones included"),
    Metric("accuracy/level_<level>", "share", "the same by difficulty level"),
    Metric("completion_length/<stat>", "tokens", "of the trained rollouts: mean, max, p90"),
    Metric("completion_length/clip_frac", "share", "of trained rollouts cut at the token limit"),
    Metric("staleness/mean", "versions", "age of the trained tokens"),
    Metric("staleness/max", "versions", "age of the oldest trained token"),
    Metric("staleness/bound", "versions", "staleness.eta: staleness/max never exceeds it"),
    Metric("staleness/masked_tokens", "tokens", "left out because they were older"),
    Metric("versions_per_rollout/mean", "versions", "that sampled one trained rollout"),
    Metric("versions_per_rollout/three_or_more_frac", "share", "of rollouts with three or more"),
    Metric("groups/usable", "groups", "left in the table after the draw"),
    Metric("replay/times_sampled_mean", "", "of the items drawn: how often, this time included"),
    Metric("replay/times_sampled_max", "", "the same, of the item drawn most often"),
    Metric("replay/priority_drawn_mean", "", "priority of the items drawn, without their age"),
    Metric("replay/uniform_share", "share", "of the draw that the uniform mix brought"),
    Metric("replay/weight_mean", "", "importance weight of the rollouts (docs/replay.md)"),
    Metric("replay/weight_max", "", "the largest"),
    Metric("replay/ess", "share", "effective sample size of these weights over their number"),
    Metric("loss/policy", "", "policy term"),
    Metric("loss/drift", "", "dppo: weighted squared log-ratio"),
    Metric("loss/kl", "", "grpo: weighted KL to the reference"),
    Metric("loss/total", "", "their sum: what is minimised"),
    Metric("loss/sft", "", "`async_r1 sft`: mean negative log-likelihood per token"),
    Metric("optim/lr", "", "learning rate of the step"),
    Metric("optim/grad_norm", "", "global, before clipping"),
    Metric("ratio/mean", "", "of pi/mu over trained tokens; about 1 if the correction is sound"),
    Metric("ratio/max", "", "the largest pi/mu"),
    Metric("ratio/ess", "share", "effective sample size of the sequence ratios over their number"),
    Metric("ratio/cap_frac", "share", "dppo: of tokens whose ratio was capped"),
    Metric("ratio/mask_frac", "share", "dppo: of tokens masked because they moved too far"),
    Metric("ratio/clip_frac", "share", "grpo: of tokens whose ratio was clipped"),
    Metric("reference_kl/mean", "nats", "grpo: k3 estimate of the KL to the reference"),
    Metric("mismatch_kl/mean", "nats", "k3 estimate of KL(mu || pi) per token"),
    Metric("logprob_diff/max", "nats", "largest |log pi - log mu|"),
    Metric("entropy/mean", "nats", "of the policy per trained token"),
    Metric("time/step_s", "s", "one optimizer step, waiting included"),
    Metric("time/wait_batch_s", "s", "of it, waiting for the batch"),
    Metric("time/train_s", "s", "of it, computing"),
    Metric("time/publish_s", "s", "publication of the version, from pause to resumption"),
    Metric("time/transfer_s", "s", "the part of it in which weights travelled and were loaded"),
    Metric("publish/bytes", "bytes", "of weights sent to each actor"),
    Metric("publish/num_actors", "actors", "that took the version"),
    Metric("learner/idle_frac", "share", "of the step spent waiting for the batch"),
    Metric("perf/tokens_per_s", "tokens/s", "trained (learner rows) or sampled (actor rows)"),
    Metric("perf/peak_memory_gib", "GiB", "of the learner: device memory, on CPU resident memory"),
)

ACTOR = (
    Metric("actor/idle_frac", "share", "of the time without sampling: waiting or loading weights"),
    Metric("actor/engine_frac", "share", "of the time inside engine steps"),
    Metric("actor/in_flight", "rollouts", "being sampled"),
    Metric("actor/batch_size", "rollouts", "mean that one engine step advanced"),
    Metric("tokens/sampled", "tokens", "so far"),
    Metric("time/update_s", "s", "weight loading since the last row"),
    Metric("time/engine_s", "s", "engine steps since the last row"),
    Metric("time/score_s", "s", "scoring in the actor itself since the last row"),
    Metric("time/idle_s", "s", "nothing to sample since the last row"),
    Metric("segments/sent", "segments", "so far"),
    Metric("scores/pending", "rollouts", "finished, being scored in other processes"),
    Metric("scores/processes_replaced", "processes", "of scoring that were killed or died, so far"),
    Metric("leases/suspended", "leases", "actor rows: so far; buffer rows: since the last row"),
)

BUFFER = (
    Metric("groups/live", "groups", "leased and not closed"),
    Metric("groups/kept", "groups", "closed and waiting to be trained"),
    Metric("groups/closed", "groups", "since the last row"),
    Metric("groups/zero_variance", "groups", "closed with equal rewards, so untrained"),
    Metric("groups/failed", "groups", "closed with too few rewards, since others failed"),
    Metric("groups/screened_out", "groups", "whose first members were all right or all wrong"),
    Metric("groups/grown", "groups", "whose screening was promising, so that they grew"),
    Metric("groups/expired", "rollouts", "that their group closed without"),
    Metric("groups/dropped_overdue", "groups", "dropped at the draw: older than the bound"),
    Metric("groups/removed", "groups", "that a full table gave up"),
    Metric(
        "staleness/admission_blocked", "times", "leasing stopped, with a slot free, at the horizon"
    ),
    Metric("staleness/in_flight_overdue", "groups", "with too old a token before they closed"),
    Metric("staleness/draws_waited", "batches", "held for an overdue group (overdue=wait)"),
    Metric("reward/errors", "rollouts", "without a reward, since scoring failed; left out"),
    Metric("reward/timeouts", "rollouts", "of them, because scoring took too long"),
    Metric(
        "admission/blocked_frac", "share", "of the time, with a slot free and no group admitted"
    ),
    Metric("leases/granted", "leases", "since the last row"),
    Metric("leases/waiting", "rollouts", "suspended, and not leased again yet"),
    Metric("leases/max_wait_versions", "versions", "one waited; fifo: at most eta + 1"),
    Metric("leases/max_wait_leases", "leases", "that others got while one waited"),
    Metric("leases/revoked", "segments", "refused because their lease had ended"),
    Metric("wire/rejected", "messages", "that were malformed or contradictory"),
    Metric("wire/rejected/<reason>", "messages", "of them, those of one reason; absent if none"),
    Metric("wire/duplicates", "segments", "received again, and acknowledged again"),
    Metric("tokens/received", "tokens", "acknowledged so far"),
    Metric("buffer/size", "items", "in the table"),
    Metric("buffer/samples_per_insert", "", "draws per inserted group so far"),
    Metric("replay/priority_mean", "", "of the items in the table, without their age"),
    Metric("replay/priority_max", "", "the largest of them"),
    Metric("replay/effective_items", "items", "1 / sum p^2 of the shares that draws go by"),
    Metric("replay/refunded", "batches", "drawn, acknowledged by no step, and taken back"),
    Metric("buffer/barren_quotas", "batches", "worth of groups in a row without a usable one"),
    Metric("journal/bytes", "bytes", "of the journal on disk, snapshot included"),
    Metric("journal/records", "records", "written by this process of the buffer"),
    Metric("journal/flush_s", "s", "that this process has spent writing them"),
    Metric("journal/compactions", "snapshots", "that took the place of what was before them"),
    Metric("journal/damaged_records", "places", "that the last restart found damaged"),
    Metric("curriculum/epoch", "epochs", "draws over training prompts"),
    Metric("curriculum/unseen", "prompts", "never drawn"),
    Metric("curriculum/in_flight", "prompts", "leased, their group not closed"),
    Metric("curriculum/repeated", "draws", "of a prompt that was in flight already, so far"),
    Metric("curriculum/retired", "prompts", "solved, so drawn only for review"),
    Metric("curriculum/in_review", "prompts", "of them, in flight"),
    Metric("curriculum/success/drawn", "share", "estimated success of the last 256 draws or so"),
    Metric("curriculum/success/level_<level>", "share", "estimated success by difficulty level"),
    Metric(
        "curriculum/share/<component>",
        "share",
        "of the last 256 draws or so; review: of retired prompts; fallback: a component found none",
    ),
    Metric(
        "curriculum/effective_prompts/<component>",
        "prompts",
        "(sum of scores)^2 / sum of squares over the candidates of its last draw",
    ),
    Metric("curriculum/uniform/epoch", "epochs", "passes over the training prompts"),
    Metric("curriculum/window/low", "share", "kimi_curriculum: prompts easier than the window"),
    Metric("curriculum/window/high", "share", "kimi_curriculum: prompts up to its end"),
    Metric("curriculum/adarft/target", "", "difficulty that is aimed at, 0 to 100"),
    Metric("curriculum/greso/p_easy", "", "chance of a prompt once all right not to be skipped"),
    Metric("curriculum/greso/p_hard", "", "the same of one that was all wrong"),
    Metric("curriculum/skipped_frac", "share", "of the last candidates, skipped by GRESO"),
)

SELECTION = (
    Metric("selection/<fate>_rollouts", "rollouts", "since the last row; fates: docs/selection.md"),
    Metric("selection/<fate>_tokens", "tokens", "the same; trained again, they count again"),
    Metric("selection/waiting_rollouts", "rollouts", "in the table, never drawn"),
    Metric("selection/<fate>_length/<stat>", "tokens", "in the window: mean, p90"),
    Metric("selection/trained_frac/level_<level>", "share", "of generated tokens that trained"),
    Metric("selection/ks_<what>", "", "distance of generated and trained: length, tokens, level"),
    Metric("selection/ks_<what>/with_variance", "", "the same without zero-variance groups"),
    Metric("selection/ks_noise", "", "what chance explains of ks_length and ks_level"),
    Metric("selection/ks_tokens_noise", "", "what chance explains of ks_tokens"),
    Metric("selection/window_groups", "groups", "with variance in the window"),
    Metric("selection/biased", "", "1 while a distance passes buffer.selection_ks_warn and chance"),
    Metric("selection/levels", "list", "the levels of `by_level`"),
    Metric("selection/length_edges", "list of tokens", "lower edges of the bins of `by_length`"),
    Metric("selection/<fate>_rollouts/<axis>", "list", "since the start, by_level or by_length"),
    Metric("selection/<fate>_tokens/<axis>", "list", "since the start, by_level or by_length"),
)

EVAL = (
    Metric("policy_version_max", "", "the highest version that sampled the measurement"),
    Metric("eval/accuracy", "share", "of held-out prompts answered right"),
    Metric("eval/task_reward/mean", "", "of the task reward itself, which may be no 0 or 1"),
    Metric("eval/accuracy/ci95", "", "half width of its 95 % interval (normal approximation)"),
    Metric("eval/accuracy/level_<level>", "share", "the same by difficulty level"),
    Metric("eval/format", "share", "of completions in the think/answer format"),
    Metric("eval/completion_length/mean", "tokens", "of the held-out completions"),
    Metric("eval/clip_frac", "share", "of them cut at the token limit"),
    Metric("eval/num_prompts", "prompts", "measured"),
    Metric("eval/reward_errors", "rollouts", "whose scoring failed: they count as wrong"),
    Metric("time/eval_s", "s", "from its first lease to its last score"),
)

STREAMS = {
    "every row": AXES,
    "learner.jsonl": LEARNER,
    "actor_000.jsonl": ACTOR,
    "buffer.jsonl": BUFFER + SELECTION,
    "eval.jsonl": EVAL,
}


def all_metrics() -> Iterator[Metric]:
    """All of them, in the order of the docs."""
    for metrics in STREAMS.values():
        yield from metrics


def find_metric(name: str) -> Metric | None:
    """The metric, or the family, that a name of a row belongs to."""
    exact = {metric.name: metric for metric in all_metrics()}
    if name in exact:
        return exact[name]
    return next((metric for metric in all_metrics() if _pattern(metric.name).fullmatch(name)), None)


@cache
def _pattern(name: str) -> re.Pattern[str]:
    return re.compile("".join(_part(part) for part in re.split(r"(<\w+>)", name)))


def _part(part: str) -> str:
    return r"[^/]+" if part.startswith("<") else re.escape(part)
