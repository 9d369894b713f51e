"""Whether a plan fits its GPUs: one inequality per GPU, and how many rollouts a cache holds."""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from async_r1 import memory
from async_r1.config import Config
from async_r1.machine import Gpu
from async_r1.model_shape import ModelShape
from async_r1.plan_roles import RolePlan


@dataclass(frozen=True)
class GpuFit:
    """What is asked of one GPU."""

    index: str  # as in CUDA_VISIBLE_DEVICES
    roles: tuple[str, ...]
    needs_gib: tuple[float, ...]  # of each role
    total_gib: float
    kind: str

    @property
    def fits(self) -> bool:
        return sum(self.needs_gib) <= self.total_gib

    def __str__(self) -> str:
        parts = " + ".join(
            f"{name} {gib:.1f}" for name, gib in zip(self.roles, self.needs_gib, strict=True)
        )
        sign, verdict = ("<=", "fits") if self.fits else (">", "does not fit")
        return f"{parts} {sign} {self.total_gib:.1f} GiB of {_article(self.kind)}: {verdict}"


def gpu_fits(roles: tuple[RolePlan, ...], gpu: Gpu) -> list[GpuFit]:
    """One for each GPU that some role has, in order; none where memory is unknown."""
    asked: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for role in roles:
        for index in role.gpus:
            if role.memory_gib is None:
                return []
            asked[index].append((role.name, role.memory_gib))
    return [
        GpuFit(
            index=index,
            roles=tuple(name for name, _ in parts),
            needs_gib=tuple(gib for _, gib in parts),
            total_gib=gpu.memory_mib / 1024,
            kind=gpu.name,
        )
        for index, parts in asked.items()
    ]


def cached_rollouts(config: Config, shape: ModelShape, num_shards: int, gpu_gib: float) -> int:
    """Rollouts of `model.max_length` that one engine's KV cache holds at a time."""
    fixed = memory.actor_fixed_gib(config, shape, num_shards, on_gpu=True)
    free = memory.actor_gib(config, shape, num_shards, gpu_gib) - fixed
    one = memory.kv_gib(config, shape, config.model.max_length, num_shards)
    return max(0, math.floor(free / one))


def cache_notes(
    config: Config, shape: ModelShape, num_shards: int, gpu_gib: float
) -> Iterator[str]:
    """What the KV cache means for `actors.max_concurrent`."""
    held, length = cached_rollouts(config, shape, num_shards, gpu_gib), config.model.max_length
    if not held:
        fixed = memory.actor_fixed_gib(config, shape, num_shards, on_gpu=True)
        one = memory.kv_gib(config, shape, length, num_shards)
        takes = memory.actor_gib(config, shape, num_shards, gpu_gib)
        yield (
            f"the actor does not fit: {fixed:.1f} GiB + {one:.1f} for one rollout of {length} "
            f"tokens > {takes:.1f} GiB that it takes; raise tensor_parallel_size, or shorten "
            f"model.max_length"
        )
    elif held < config.actors.max_concurrent:
        yield (
            f"the KV cache holds {held} rollouts of {length} tokens, "
            f"actors.max_concurrent={config.actors.max_concurrent}: if more of them grow that "
            f"long, vLLM sets some back and computes their cache again"
        )
    else:
        yield (
            f"the KV cache holds {held} rollouts of {length} tokens, "
            f"actors.max_concurrent={config.actors.max_concurrent}"
        )


def _article(kind: str) -> str:
    """a or an, as the name is read aloud."""
    return f"{'an' if kind[:1] in 'AHLR' else 'a'} {kind}"
