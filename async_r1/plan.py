"""What `launch` will start, decided from configuration and machine alone: no process, no file.

OpenMP threads that spin at barriers make a machine with more of them than cores thirty to fifty
times slower, so every role gets a share of the cores as OMP_NUM_THREADS, and none may spin.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from async_r1 import memory
from async_r1.config import Config
from async_r1.errors import ConfigError
from async_r1.fits import GpuFit, cache_notes, gpu_fits
from async_r1.machine import Gpu
from async_r1.model_shape import ModelShape
from async_r1.plan_roles import RolePlan
from async_r1.shares import Only, divide_cores, divide_gpus, num_computing, num_shards


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All processes of a run, in the order in which they start."""

    roles: tuple[RolePlan, ...]
    num_cores: int
    staleness: str = ""
    notes: tuple[str, ...] = field(default=())
    gpus: tuple[GpuFit, ...] = ()  # those that some role has, if their kind and the shape are known

    @property
    def threads(self) -> dict[str, int]:
        """Compute threads by role name."""
        return {role.name: role.threads for role in self.roles}


def plan(
    config: Config,
    num_cores: int,
    *,
    gpus: Sequence[str] = (),
    gpu: Gpu | None = None,
    shape: ModelShape | None = None,
    master_port: int = 0,
    only: Only = "",
) -> Plan:
    """Divide cores and GPUs between the roles.

    Args:
        num_cores: that may be used; `run.num_cores`, if set, counts instead.
        gpus: identifiers of the GPUs that may be used; none: everything runs on the CPU.
        gpu: of which kind they are, the smallest if they differ; for the memory estimate.
        shape: of the model, for the memory estimate.
        master_port: where the learner's ranks meet.
        only: the learner, as `async_r1 sft` runs, or an actor, as `eval` and `curate` do.

    Raises:
        ConfigError: there are too few GPUs, or the weight backend does not fit.
    """
    num_cores = config.run.num_cores or num_cores
    if config.run.device == "cpu":
        gpus = ()
    _check_device(config, gpus, only)
    _check_positions(config, shape)
    learner_gpus, actor_gpus = divide_gpus(config, gpus, only)
    num_actors, num_ranks = num_computing(config, only)
    per_actor, per_rank = divide_cores(
        num_cores, num_actors, num_ranks, in_turns=config.mode == "sync"
    )
    roles = [] if only else [_buffer(config)]
    for index in range(num_ranks):
        env = _env(per_rank[index], learner_gpus, is_learner=True)
        env |= _rendezvous(config, index, master_port)
        roles.append(
            RolePlan(
                kind="learner",
                index=index,
                threads=per_rank[index],
                gpus=learner_gpus[index : index + 1],
                memory_gib=memory.learner_gib(config, shape, on_gpu=bool(gpus)) if shape else None,
                env=env,
            )
        )
    gpu_gib = gpu.memory_mib / 1024 if gpu and gpus else None
    for index in range(num_actors):
        shards = max(1, len(actor_gpus[index]))
        env = _env(per_actor[index], actor_gpus[index], is_learner=False)
        env["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0" if config.actors.in_process else "1"
        roles.append(
            RolePlan(
                kind="actor",
                index=index,
                threads=per_actor[index],
                gpus=actor_gpus[index],
                memory_gib=memory.actor_gib(config, shape, shards, gpu_gib) if shape else None,
                env=env,
            )
        )
    computing = num_actors + num_ranks
    cache: Iterator[str] = iter(())
    if shape and gpu_gib and num_actors:
        cache = cache_notes(config, shape, num_shards(config), gpu_gib)
    return Plan(
        roles=tuple(roles),
        num_cores=num_cores,
        staleness="" if only else staleness_bound(config),
        notes=(*cache, *_notes(config, num_cores, computing, bool(gpus), shape)),
        gpus=tuple(gpu_fits(tuple(roles), gpu)) if gpu else (),
    )


# Segments stay in the memory that they were received into. With small pages each costs 32 page
# faults, as much as all else; glibc asks for huge ones in its first arena only.
BUFFER_MALLOC = "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1"


def staleness_bound(config: Config) -> str:
    """What bounds the age of trained tokens, and by how much."""
    staleness, buffer = config.staleness, config.buffer
    if staleness.force >= 0:
        return f"every batch is sampled by the policy of {staleness.force} versions before it"
    if config.mode == "sync":
        return "0 versions: each batch is sampled by the version that trains on it"
    at_consumption = {
        "mask": "older tokens are masked",
        "wait": "the learner waits for rollouts that would become older; older tokens are masked",
        "drop": "groups with older tokens are dropped",
    }[staleness.overdue]
    use_once = buffer.max_times_sampled == 1 and buffer.samples_per_insert == 1
    admission = (
        "admission leases no group that could train later, and draws take groups in lease order"
        if buffer.sampler == "fifo" and use_once
        else "admission limits the groups in the system, but draws do not go by age alone, so the "
        "check at consumption bounds"
    )
    return f"{staleness.eta} versions: {admission}; {at_consumption}"


def _buffer(config: Config) -> RolePlan:
    gib = memory.buffer_gib(config)
    env = {**_env(1, (), is_learner=False), "GLIBC_TUNABLES": BUFFER_MALLOC}
    return RolePlan(kind="buffer", index=0, threads=1, memory_gib=gib, env=env)


def _env(threads: int, gpus: Sequence[str], *, is_learner: bool) -> dict[str, str]:
    """Variables that must be set before torch or vLLM is imported."""
    count = str(threads)
    env = {
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "OMP_WAIT_POLICY": "PASSIVE",
        "KMP_BLOCKTIME": "0",  # Intel's OpenMP goes by this instead of the wait policy
        "PYTHONHASHSEED": "0",  # some of reasoning-gym's questions follow from it
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else vLLM takes all cores, whatever is set here
        "VLLM_NO_USAGE_STATS": "1",
        "CUDA_VISIBLE_DEVICES": ",".join(gpus),
    }
    if is_learner and not gpus:
        env["DS_ACCELERATOR"] = "cpu"
    return env


def _rendezvous(config: Config, rank: int, master_port: int) -> dict[str, str]:
    return {
        "MASTER_ADDR": config.run.host,
        "MASTER_PORT": str(master_port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(config.learner.ranks),
    }


def _check_device(config: Config, gpus: Sequence[str], only: Only) -> None:
    if gpus:
        return
    if config.run.device == "gpu":
        raise ConfigError(
            "run.device=gpu needs GPUs that torch can use, there are none; set run.device=cpu, or "
            "see what would fit with dry_run=true and run.plan_for, such as 8xH100-80"
        )
    if only == "learner":
        return
    if config.weights.backend in ("nccl", "ipc") and not only:
        raise ConfigError(
            f"weights.backend={config.weights.backend} needs GPUs, there are none; use "
            f"weights.backend=auto or gloo"
        )
    if num_shards(config) > 1:
        num_actors, num_ranks = num_computing(config, only)
        raise ConfigError(
            f"actors.engine.tensor_parallel_size needs GPUs, there are none: an engine on a CPU is "
            f"one worker; set it to 1 (see what would fit with dry_run=true run.plan_for="
            f"{num_ranks + num_actors * num_shards(config)}xH100-80)"
        )


def _check_positions(config: Config, shape: ModelShape | None) -> None:
    if shape and 0 < shape.max_positions < config.model.max_length:
        raise ConfigError(
            f"model.max_length must be <= {shape.max_positions}, the positions of the model, got "
            f"{config.model.max_length}; shorten it, or set model.rope_scaling (context=64k_yarn "
            f"does for Qwen3)"
        )


def _notes(
    config: Config, num_cores: int, computing: int, has_gpus: bool, shape: ModelShape | None
) -> Iterator[str]:
    if computing > num_cores and config.mode == "async":
        yield f"{computing} processes compute on {num_cores} cores, which they have to share"
    priority = config.buffer.priority
    if (
        config.buffer.item == "rollout"
        and config.buffer.sampler == "prioritized"
        and min(priority.beta0, priority.beta1) < 1
    ):
        yield (
            "buffer.item=rollout with priorities un-centres advantages while beta < 1: the members "
            "of a group are drawn unequally, and not wholly corrected; set buffer.priority.beta0=1 "
            "and beta1=1, or buffer.item=group"
        )
    if not has_gpus and "kv_cache_memory_bytes" not in config.actors.engine:
        yield (
            "without actors.engine.kv_cache_memory_bytes vLLM takes most of the host's memory for "
            "its KV cache"
        )
    if shape is None:
        yield (
            "memory is unknown: model.path is no local or cached model of a known form, and "
            "model.shape is empty"
        )
    elif has_gpus:
        gib = config.learner.ranks * memory.weights_gib(config, shape)
        yield f"while they load, learner ranks hold {gib:.1f} GiB of weights in the host's memory"
