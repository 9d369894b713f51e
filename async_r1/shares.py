"""How many cores and which GPUs each role gets."""

from collections.abc import Sequence
from typing import Literal

from async_r1.config import Config
from async_r1.errors import ConfigError

Only = Literal["", "learner", "actor"]  # the one side that a command starts; "": all of a run

_CORES_FOR_BUFFER = 8  # from here on one core is left to the buffer, which else shares


def divide_cores(
    num_cores: int, num_actors: int, num_ranks: int, *, in_turns: bool = False
) -> tuple[list[int], list[int]]:
    """Threads of each actor and of each learner rank, at least 1 each.

    Half of the cores go to each side, as far as every process has one. Ranks get equal shares,
    since a step waits for the slowest; actors get what is left, evenly. If actors and learner
    compute `in_turns`, each side gets all cores; so does a side that is alone. Never more threads
    at a time than cores, unless there are fewer cores than processes that compute.
    """
    computing = max(1, num_cores - 1 if num_cores >= _CORES_FOR_BUFFER else num_cores)
    if in_turns or not num_actors or not num_ranks:
        ranks, actors = computing, computing
    else:
        ranks = max(num_ranks, min(computing // 2, computing - num_actors))
        actors = computing - max(1, ranks // num_ranks) * num_ranks
    per_rank = max(1, ranks // max(1, num_ranks))
    per_actor, extra = divmod(max(actors, num_actors), num_actors) if num_actors else (0, 0)
    return [per_actor + (index < extra) for index in range(num_actors)], [per_rank] * num_ranks


def divide_gpus(
    config: Config, gpus: Sequence[str], only: Only = ""
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """GPUs of the learner, one a rank, then those of each actor, as many as share its engine.

    With `run.colocate` all actors are on the learner's one GPU.

    Raises:
        ConfigError: there are some, but too few.
    """
    num_actors, num_ranks = num_computing(config, only)
    if not gpus:
        return (), [()] * num_actors
    if config.run.colocate and num_actors and num_ranks:
        return tuple(gpus[:1]), [tuple(gpus[:1])] * num_actors
    shards = num_shards(config)
    needed = num_ranks + num_actors * shards
    if needed > len(gpus):
        parts = [f"learner.ranks={num_ranks}"] * bool(num_ranks)
        parts += [f"actors.count={num_actors} x {shards} a engine"] * bool(num_actors)
        raise ConfigError(
            f"{' + '.join(parts)} need {needed} GPUs, there are "
            f"{len(gpus)}; lower one of them, share one with run.colocate=true, or stay on the CPU "
            f"with run.device=cpu"
        )
    split = num_ranks
    starts = range(split, split + num_actors * shards, shards)
    return tuple(gpus[:split]), [tuple(gpus[start : start + shards]) for start in starts]


def num_computing(config: Config, only: Only) -> tuple[int, int]:
    """Actors and learner ranks of a run, or of a command that starts one side only."""
    num_actors = 0 if only == "learner" else config.actors.count
    return num_actors, 0 if only == "actor" else config.learner.ranks


def num_shards(config: Config) -> int:
    """GPUs that share one engine: tensor times pipeline parallelism."""
    engine = config.actors.engine
    pipeline = int(engine.get("pipeline_parallel_size", 1))
    return pipeline * int(engine.get("tensor_parallel_size", 1))
