"""What a launch will start: processes, threads, devices, memory; computed before anything runs."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from async_r1.config import Config
from async_r1.errors import ConfigError
from async_r1.memory import MemoryEstimate, estimate_memory


@dataclass(frozen=True, kw_only=True)
class RolePlan:
    """One process to start."""

    name: str  # "actor_000"
    package: str  # "actors"
    index: int
    threads: int
    devices: tuple[int, ...]  # GPUs; empty on CPU
    memory: MemoryEstimate


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All processes of a run."""

    roles: tuple[RolePlan, ...]
    num_cores: int
    num_gpus: int

    @property
    def oversubscribed(self) -> bool:
        """More compute threads than cores: each still works, but slower than its share."""
        return sum(role.threads for role in self.roles if role.package != "buffer") > self.num_cores


def make_plan(config: Config, *, num_cores: int, num_gpus: int) -> Plan:
    """Divide cores and devices between the roles.

    Every compute role gets an equal share of the cores, at least one thread; actors get what is
    left over, because sampling is the larger part. On GPUs learner ranks come first.

    Raises:
        ConfigError: there are GPUs, but fewer than the roles need.
    """
    learners, actors = config.learner.ranks, config.actors.count
    share, rest = divmod(num_cores, learners + actors)
    per_actor = int(config.actors.engine.get("tensor_parallel_size", 1))
    needed = learners + actors * per_actor
    if 0 < num_gpus < needed:
        raise ConfigError(
            f"learner.ranks={learners} and actors.count={actors} of tensor_parallel_size="
            f"{per_actor} need {needed} GPUs, there are {num_gpus}"
        )
    memory = estimate_memory(config)
    roles = [_role("buffer", "buffer", 0, 1, (), memory.buffer)]
    for rank in range(learners):
        devices = (rank,) if num_gpus else ()
        threads = max(1, share)
        roles.append(_role("learner", "learner", rank, threads, devices, memory.learner))
    for index in range(actors):
        first = learners + index * per_actor
        devices = tuple(range(first, first + per_actor)) if num_gpus else ()
        threads = max(1, share + (1 if index < rest else 0))
        roles.append(_role("actor", "actors", index, threads, devices, memory.actor))
    return Plan(roles=tuple(roles), num_cores=num_cores, num_gpus=num_gpus)


def environment(role: RolePlan, plan: Plan, config: Config, master_port: int) -> dict[str, str]:
    """Environment variables of a role, on top of the launcher's.

    Threads that spin at barriers slow a machine with more threads than cores thirtyfold, hence
    the passive wait policy beside the share of cores.
    """
    threads = str(role.threads)
    values = {
        "OMP_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "PASSIVE",
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"),
        "VLLM_NO_USAGE_STATS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if plan.num_gpus:
        values["CUDA_VISIBLE_DEVICES"] = ",".join(str(device) for device in role.devices)
    else:
        values["DS_ACCELERATOR"] = "cpu"
    if role.package == "actors":
        values["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0" if config.actors.in_process else "1"
    if role.package == "learner":
        values |= {
            "MASTER_ADDR": config.run.host,
            "MASTER_PORT": str(master_port),
            "RANK": str(role.index),
            "LOCAL_RANK": "0",
            "WORLD_SIZE": str(config.learner.ranks),
        }
    return values


def available_cores(config: Config) -> int:
    """`run.num_cores`, or all that this process may use."""
    return config.run.num_cores or len(os.sched_getaffinity(0))


def available_gpus(environ: Mapping[str, str] = os.environ) -> int:
    """GPUs that a role may be given; 0 where the driver shows none."""
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip()])
    if shutil.which("nvidia-smi") is None:
        return 0
    result = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20)
    return sum(line.startswith("GPU ") for line in result.stdout.splitlines())


def staleness_statement(config: Config) -> str:
    """The bound, and what keeps it."""
    staleness = config.staleness
    if staleness.force >= 0:
        return f"exactly {staleness.force} versions, forced"
    if staleness.eta == 0:
        return "0: a version's batch is sampled by that version (sync)"
    capacity = (staleness.eta + 1) * config.learner.updates_per_publish
    groups = int(capacity * config.learner.groups_per_update / config.buffer.samples_per_insert)
    return (
        f"<= {staleness.eta} versions: at most {groups} groups are admitted ahead, and tokens "
        f"beyond the bound are subject to staleness.overdue={staleness.overdue}"
    )


def _role(
    kind: str,
    package: str,
    index: int,
    threads: int,
    devices: tuple[int, ...],
    memory: MemoryEstimate,
) -> RolePlan:
    name = kind if kind == "buffer" else f"{kind}_{index:03d}"
    return RolePlan(
        name=name, package=package, index=index, threads=threads, devices=devices, memory=memory
    )
