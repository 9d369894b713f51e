"""Every option of a run, typed; the docs of the knobs.

The classes are frozen: Hydra composes plain values, `schema.build` checks them against these
types once, and every role gets the same immutable `Config` from `RUN/config/resolved.json`.
A rule that involves one field stands in its metadata (`opt`); a rule that involves several
stands in `rules.py`.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from async_r1.config_buffer import BufferConfig, StalenessConfig
from async_r1.config_curriculum import CurriculumConfig
from async_r1.config_task import (
    CurateConfig,
    EvalConfig,
    EvaluateConfig,
    RewardConfig,
    TaskConfig,
)
from async_r1.schema import opt


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where a run lives and how long it waits."""

    name: str = opt("", doc="directory name below run.dir; empty: <experiment>-<model>-<time>")
    dir: str = opt("runs", doc="parent directory of runs")
    host: str = opt("127.0.0.1", doc="address that the roles bind")
    buffer_address: str = opt("", doc="tcp://host:port of the buffer; empty: a free port")
    weights_address: str = opt("", doc="tcp://host:port of weight control; empty: a free port")
    num_cores: int = opt(0, ge=0, doc="cores to divide between roles; 0: all that are allowed")
    device: Literal["auto", "cpu", "gpu"] = opt("auto", doc="auto: GPUs, if torch can use any")
    colocate: bool = opt(False, doc="actors share the learner's GPU; weights go by ipc or gloo")
    plan_for: str = opt(
        "", doc="dry_run: plan for these GPUs, such as 8xH100-80, instead of this machine's"
    )
    start_timeout_s: float = opt(300.0, gt=0, doc="deadline for a role to become ready")
    stop_timeout_s: float = opt(8.0, gt=0, doc="time to stop before a role is killed")
    buffer_restarts: int = opt(
        3, ge=0, doc="times that a buffer killed by a signal is started again, with its journal"
    )
    peer_timeout_s: float = opt(120.0, gt=0, doc="silence after which a peer counts as dead")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The policy."""

    path: str = opt("", doc="HF name or directory; 'configs:…' is inside the configs tree")
    init: Literal["", "nano", "random"] = opt(
        "", doc="make the model: nano (sft only), or random weights of model.shape, over characters"
    )
    shape: dict[str, Any] = opt(
        {}, doc="values of config.json: of model.init=random, and of estimates without the model"
    )
    tie_embeddings: bool = opt(False, doc="tie input and output embeddings (init only)")
    rope_scaling: dict[str, Any] = opt(
        {}, doc="rotary scaling for more positions than the model has, such as YaRN"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = opt(
        "float32", doc="parameter dtype in actors and learner; log-probs are float32"
    )
    max_length: int = opt(512, ge=16, doc="prompt and completion together [tokens]")


@dataclass(frozen=True, kw_only=True)
class ActorsConfig:
    """Sampling."""

    count: int = opt(1, ge=1, doc="actor processes")
    in_process: bool = opt(True, doc="engine inside the actor; false: its own process (GPU, TP)")
    max_concurrent: int = opt(64, ge=1, doc="rollouts in flight per actor")
    prefetch: int = opt(
        8, ge=0, doc="leases waiting in the engine, so that a freed slot is filled at once (async)"
    )
    segment_tokens: int = opt(32, ge=1, doc="tokens of a full segment")
    rollout_token_budget: int = opt(
        0, ge=0, doc="tokens that one lease may sample before suspension; 0: no limit"
    )
    temperature: float = opt(1.0, gt=0, doc="sampling temperature, the learner's too")
    kv_cache: Literal["keep", "recompute"] = opt("keep", doc="KV cache at a weight update")
    credit_bytes: int = opt(8 << 20, ge=65536, doc="unacknowledged bytes per actor")
    dead_after_s: float = opt(120.0, gt=0, doc="silence after which its leases are suspended")
    engine: dict[str, Any] = opt({}, doc="any vLLM engine argument")


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """Optimisation."""

    ranks: int = opt(1, ge=1, doc="learner processes (data parallel)")
    num_updates: int = opt(100, ge=1, doc="optimizer steps of the run")
    updates_per_publish: int = opt(1, ge=1, doc="optimizer steps per policy version")
    groups_per_update: int = opt(32, ge=1, doc="groups in one optimizer step")
    lr: float = opt(1e-6, gt=0, doc="peak learning rate")
    warmup_updates: int = opt(0, ge=0, doc="linear warm-up")
    lr_decay: Literal["constant", "linear", "cosine"] = opt("constant", doc="after warm-up")
    lr_min_frac: float = opt(0.1, ge=0, le=1, doc="floor of the decay, as a share of lr")
    betas: list[float] = opt([0.9, 0.95], doc="Adam")
    eps: float = opt(1e-8, gt=0, doc="Adam")
    weight_decay: float = opt(0.0, ge=0, doc="AdamW")
    grad_clip: float = opt(1.0, gt=0, doc="global gradient norm")
    zero_stage: int = opt(0, ge=0, le=3, doc="DeepSpeed ZeRO stage")
    micro_batch_tokens: int = opt(
        8192, ge=64, doc="tokens of one micro-batch per rank; a prompt of several counts once"
    )
    gradient_checkpointing: bool = opt(False, doc="recompute activations")
    logprob_chunk_tokens: int = opt(4096, ge=16, doc="rows of logits alive at once")
    checkpoint_every: int = opt(0, ge=0, doc="versions between HF checkpoints; 0: at the end only")
    deepspeed: dict[str, Any] = opt({}, doc="any DeepSpeed option, merged over ours")


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Policy objective; defaults are those argued for in docs/architecture.md."""

    name: Literal["dppo", "grpo"] = opt("dppo", doc="objective")
    ratio_cap: float = opt(5.0, gt=0, doc="dppo: cap of the detached ratio pi/mu")
    tv_low: float = opt(0.2, gt=0, doc="dppo: mask when A<0 and p falls by more")
    tv_high: float = opt(0.2, gt=0, doc="dppo: mask when A>0 and p rises by more")
    drift: float = opt(1e-3, ge=0, doc="dppo: weight of the squared log-ratio (Kimi k1.5)")
    opsm: float = opt(0.0, ge=0, doc="dppo: sequence mask for A<0 beyond this KL; 0: off")
    clip_low: float = opt(0.2, gt=0, doc="grpo: clip below")
    clip_high: float = opt(0.2, gt=0, doc="grpo: clip above")
    kl: float = opt(1e-3, ge=0, doc="grpo: weight of k3 KL to the reference")
    reference_refresh: int = opt(400, ge=0, doc="grpo: versions between refreshes; 0: never")
    advantage_norm: Literal["batch", "group", "none"] = opt(
        "batch", doc="divide group-centred rewards by the deviation of batch or group"
    )
    aggregation: Literal["token", "sequence", "prompt"] = opt(
        "token", doc="token: per trainable token; sequence: per rollout (GRPO); prompt: ScaleRL"
    )
    ess_lr: bool = opt(False, doc="scale lr by sqrt of the effective sample size (VCPO)")


@dataclass(frozen=True, kw_only=True)
class WeightsConfig:
    """Weight publication."""

    backend: Literal["auto", "gloo", "nccl", "ipc"] = opt(
        "auto", doc="auto: gloo on CPU, nccl on GPU, ipc with run.colocate"
    )
    timeout_s: float = opt(60.0, gt=0, doc="deadline of one transfer")


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """What is shown and kept."""

    console: Literal["auto", "panel", "plain", "quiet"] = opt("auto", doc="terminal output")
    rollouts_kept: int = opt(3, ge=0, doc="best, worst and telling rollouts kept per step")
    tensorboard: bool = opt(False, doc="write TensorBoard files from the metric rows")
    wandb: bool = opt(False, doc="send the metric rows to Weights & Biases")
    project: str = opt("async_r1", doc="tracker project")


@dataclass(frozen=True, kw_only=True)
class SftPhase:
    """One phase of supervised fine-tuning."""

    updates: int = opt(300, ge=1, doc="optimizer steps")
    lr: float = opt(1e-3, gt=0, doc="peak learning rate, linear decay to a tenth")
    batch_size: int = opt(64, ge=1, doc="examples per step")
    warmup_updates: int = opt(20, ge=0, doc="linear warm-up")
    levels: list[int] = opt([], doc="task levels; empty: task.levels")
    styles: dict[str, float] = opt({}, doc="style: share")


@dataclass(frozen=True, kw_only=True)
class SftConfig:
    """`async_r1 sft`."""

    out: str = opt("", doc="directory of the checkpoint; empty: inside the run directory")
    phases: list[SftPhase] = opt([], doc="in order")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The root."""

    experiment: str = opt("", doc="name of the preset, for the run's name")
    seed: int = opt(0, ge=0, doc="seed of the run")
    mode: Literal["async", "sync"] = opt("async", doc="sync: staleness.eta=0, deterministic")
    dry_run: bool = opt(False, doc="validate, print the plan, exit")
    run: RunConfig = field(default_factory=RunConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    actors: ActorsConfig = field(default_factory=ActorsConfig)
    buffer: BufferConfig = field(default_factory=BufferConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    staleness: StalenessConfig = field(default_factory=StalenessConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    sft: SftConfig = field(default_factory=SftConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    curate: CurateConfig = field(default_factory=CurateConfig)
