"""Placement, environment and memory, as functions of configuration and machine."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_r1.config import Config
from async_r1.errors import ConfigError
from async_r1.gpus import parse_gpus
from async_r1.machine import Gpu
from async_r1.memory import (
    GIB,
    GPU_RUNTIME_GIB,
    RUNTIME_GIB,
    actor_gib,
    learner_gib,
    learner_parts,
)
from async_r1.model_shape import ModelShape
from async_r1.plan import Plan, plan, staleness_bound
from async_r1.schema import build
from async_r1.shares import divide_cores

SHAPE = ModelShape(
    num_parameters=10**9, num_layers=24, hidden_size=2048, kv_size=512, vocab_size=150_000
)
counts = st.integers(1, 9)


def config(**sections: Any) -> Config:
    return build(Config, sections)


@given(num_cores=st.integers(1, 300), num_actors=counts, num_ranks=counts)
def test_cores_are_divided_fairly(num_cores: int, num_actors: int, num_ranks: int) -> None:
    actors, ranks = divide_cores(num_cores, num_actors, num_ranks)
    assert (len(actors), len(ranks)) == (num_actors, num_ranks)
    assert min(actors + ranks) >= 1
    assert sum(actors) + sum(ranks) <= max(num_cores, num_actors + num_ranks)
    assert len(set(ranks)) == 1 and max(actors) - min(actors) <= 1
    # None is wasted but what equal shares of the ranks, or the buffer, leave over.
    assert sum(actors) + sum(ranks) >= num_cores - 1


@given(num_cores=st.integers(1, 300), num_actors=counts, num_ranks=counts)
def test_in_turns_each_side_has_all_cores(num_cores: int, num_actors: int, num_ranks: int) -> None:
    actors, ranks = divide_cores(num_cores, num_actors, num_ranks, in_turns=True)
    assert num_cores - num_actors <= sum(actors) <= max(num_cores, num_actors)
    assert num_cores - num_ranks <= sum(ranks) <= max(num_cores, num_ranks)


@given(num_cores=st.integers(1, 300), num_ranks=counts)
def test_alone_the_learner_has_all_cores(num_cores: int, num_ranks: int) -> None:
    actors, ranks = divide_cores(num_cores, 0, num_ranks)
    assert actors == []
    assert num_cores - num_ranks <= sum(ranks) <= max(num_cores, num_ranks)


@pytest.mark.parametrize(
    ("num_cores", "num_actors", "num_ranks", "expected"),
    [
        (1, 1, 1, ([1], [1])),
        (2, 1, 1, ([1], [1])),
        (3, 1, 1, ([2], [1])),
        (4, 2, 1, ([1, 1], [2])),
        (6, 1, 2, ([4], [1, 1])),
        (9, 1, 1, ([4], [4])),  # one for the buffer
        (64, 3, 2, ([11, 11, 11], [15, 15])),
    ],
)
def test_divisions(
    num_cores: int, num_actors: int, num_ranks: int, expected: tuple[list[int], list[int]]
) -> None:
    actors, ranks = divide_cores(num_cores, num_actors, num_ranks)
    assert (actors, ranks) == expected


def test_every_role_is_named_and_limited_to_its_share() -> None:
    planned = plan(config(actors={"count": 2}, learner={"ranks": 2}), 8)
    assert [role.name for role in planned.roles] == [
        *("buffer", "learner_000", "learner_001", "actor_000", "actor_001")
    ]
    for role in planned.roles:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            assert role.env[name] == str(role.threads) == str(planned.threads[role.name])
        assert role.env["OMP_WAIT_POLICY"] == "PASSIVE"
        assert role.env["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
        assert role.env["TOKENIZERS_PARALLELISM"] == "false"


def test_the_option_counts_instead_of_the_machine() -> None:
    assert plan(config(run={"num_cores": 3}), 64).num_cores == 3


def test_ranks_meet_at_one_address() -> None:
    planned = plan(config(learner={"ranks": 3}), 8, master_port=4711)
    ranks = [role.env for role in planned.roles if role.kind == "learner"]
    assert [env["RANK"] for env in ranks] == ["0", "1", "2"]
    assert {env["WORLD_SIZE"] for env in ranks} == {"3"}
    assert {(env["MASTER_ADDR"], env["MASTER_PORT"]) for env in ranks} == {("127.0.0.1", "4711")}
    assert {env["DS_ACCELERATOR"] for env in ranks} == {"cpu"}


@pytest.mark.parametrize(("in_process", "expected"), [(True, "0"), (False, "1")])
def test_where_the_engine_runs(in_process: bool, expected: str) -> None:
    planned = plan(config(actors={"in_process": in_process}), 2)
    assert planned.roles[-1].env["VLLM_ENABLE_V1_MULTIPROCESSING"] == expected


def test_gpus_go_to_ranks_first_then_to_engines() -> None:
    wanted = config(
        learner={"ranks": 2},
        actors={"count": 2, "in_process": False, "engine": {"tensor_parallel_size": 2}},
    )
    planned = plan(wanted, 32, gpus=("0", "1", "4", "5", "6", "7"))
    assert visible(planned) == {
        "buffer": "",
        "learner_000": "0,1",
        "learner_001": "0,1",
        "actor_000": "4,5",
        "actor_001": "6,7",
    }
    ranks = [role for role in planned.roles if role.kind == "learner"]
    assert [role.env["LOCAL_RANK"] for role in ranks] == ["0", "1"]
    assert [role.gpus for role in ranks] == [("0",), ("1",)]
    assert not any("DS_ACCELERATOR" in role.env for role in planned.roles)


def test_too_few_gpus_are_refused_with_both_ways_out() -> None:
    error = (
        "learner.ranks=1 \\+ actors.count=2 x 1 a engine need 3 GPUs, there are 2; "
        "lower one of them, share one with run.colocate=true, or stay on the CPU with "
        "run.device=cpu"
    )
    with pytest.raises(ConfigError, match=error):
        plan(config(actors={"count": 2}), 8, gpus=("0", "1"))
    on_cpu = plan(config(actors={"count": 2}, run={"device": "cpu"}), 8, gpus=("0", "1"))
    assert set(visible(on_cpu).values()) == {""}


def test_gloo_goes_between_gpus_too() -> None:
    planned = plan(config(weights={"backend": "gloo"}), 8, gpus=("0", "1"))
    assert visible(planned) == {"buffer": "", "learner_000": "0", "actor_000": "1"}


def test_actors_share_the_gpu_of_the_learner() -> None:
    planned = plan(config(run={"colocate": True}, actors={"count": 2}), 8, gpus=("3",))
    assert visible(planned) == {
        "buffer": "",
        "learner_000": "3",
        "actor_000": "3",
        "actor_001": "3",
    }


@pytest.mark.parametrize(
    ("sections", "error"),
    [
        ({"run": {"device": "gpu"}}, "run.device=gpu needs GPUs that torch can use"),
        ({"weights": {"backend": "ipc"}}, "weights.backend=ipc needs GPUs, there are none"),
        (
            {"actors": {"engine": {"tensor_parallel_size": 2}}},
            "an engine on a CPU is one worker; set it to 1 .*run.plan_for=3xH100-80",
        ),
    ],
    ids=str,
)
def test_what_needs_gpus_is_refused_without(sections: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        plan(config(**sections), 8)


def test_nccl_needs_gpus() -> None:
    with pytest.raises(ConfigError, match="nccl needs GPUs, there are none"):
        plan(config(weights={"backend": "nccl"}), 8)
    plan(config(weights={"backend": "nccl"}), 8, gpus=("0", "1"))


def test_fine_tuning_plans_the_learner_alone() -> None:
    planned = plan(config(learner={"ranks": 2}), 8, gpus=("0", "1"), only="learner")
    assert [role.name for role in planned.roles] == ["learner_000", "learner_001"]


def test_more_processes_than_cores_is_said() -> None:
    assert any("4 processes compute on 2 cores" in note for note in notes(2, count=3))
    assert not any("processes compute" in note for note in notes(4, count=3))


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({}, ["4 versions", "lease order", "masked"]),
        ({"staleness": {"eta": 2, "overdue": "drop"}}, ["2 versions", "dropped"]),
        ({"buffer": {"sampler": "uniform"}}, ["4 versions", "the check at consumption bounds"]),
        ({"mode": "sync", "staleness": {"eta": 0}}, ["0 versions"]),
        ({"mode": "sync", "staleness": {"eta": 0, "force": 3}}, ["3 versions before it"]),
    ],
    ids=str,
)
def test_the_bound_is_stated_with_its_reason(sections: dict[str, Any], words: list[str]) -> None:
    statement = staleness_bound(config(**sections))
    assert all(word in statement for word in words)


def test_learner_memory_by_hand() -> None:
    """A billion parameters, mixed precision, ZeRO-2 over 4 ranks."""
    wanted = config(
        model={"dtype": "bfloat16"},
        learner={
            "ranks": 4,
            "zero_stage": 2,
            "micro_batch_tokens": 8192,
            "logprob_chunk_tokens": 1024,
        },
    )
    weights, gradients, adam = 2e9, 4e9 / 4, 12e9 / 4
    activations = 2 * (17 + 10) * 2048 * 24 * 8192
    logits = 12 * 150_000 * 1024
    projection = 8 * 150_000 * 2048
    expected = (weights + gradients + adam + activations + logits + projection) / GIB
    assert learner_gib(wanted, SHAPE) == pytest.approx(RUNTIME_GIB["learner"] + expected)
    on_gpu = learner_gib(wanted, SHAPE, on_gpu=True)
    assert on_gpu == pytest.approx(GPU_RUNTIME_GIB["learner"] + expected)


def test_a_publication_gathers_the_whole_model_of_a_sharded_learner() -> None:
    wanted = config(
        model={"dtype": "bfloat16"},
        learner={
            "ranks": 4,
            "zero_stage": 3,
            "micro_batch_tokens": 512,
            "logprob_chunk_tokens": 16,
        },
    )
    weights, gradients, adam = 2e9 / 4, 4e9 / 4, 12e9 / 4
    expected = (weights + gradients + adam + max(2e9, 8 * 150_000 * 2048)) / GIB
    step = learner_parts(wanted, SHAPE)
    assert step["publication"] * GIB == 2e9
    assert learner_gib(wanted, SHAPE) - RUNTIME_GIB["learner"] == pytest.approx(
        expected + step["activations"] + step["attention"] + step["logits"]
    )
    narrow = ModelShape(**{**vars(SHAPE), "vocab_size": 100})
    expected = (weights + gradients + adam + 2e9) / GIB
    assert learner_gib(wanted, narrow) == pytest.approx(RUNTIME_GIB["learner"] + expected)


@given(stage=st.integers(0, 3), ranks=counts, checkpointing=st.booleans())
def test_sharding_and_checkpointing_never_cost_memory(
    stage: int, ranks: int, checkpointing: bool
) -> None:
    def gib(zero_stage: int, num_ranks: int, is_checkpointing: bool) -> float:
        learner = {
            "zero_stage": zero_stage,
            "ranks": num_ranks,
            "gradient_checkpointing": is_checkpointing,
        }
        parts = learner_parts(config(learner=learner), SHAPE)
        return sum(gib for name, gib in parts.items() if name != "publication")

    here = gib(stage, ranks, checkpointing)
    assert gib(min(stage + 1, 3), ranks, checkpointing) <= here
    assert gib(stage, ranks + 1, checkpointing) <= here
    assert gib(stage, ranks, True) <= here


def test_actor_memory_by_hand() -> None:
    wanted = config(model={"dtype": "bfloat16", "max_length": 4096}, actors={"max_concurrent": 100})
    cache = 2 * 2 * 24 * 512 * 4096 * 100
    expected = RUNTIME_GIB["actor"] + (2e9 + cache) / GIB
    assert actor_gib(wanted, SHAPE) == pytest.approx(expected)
    stated = config(actors={"engine": {"kv_cache_memory_bytes": GIB}})
    assert actor_gib(stated, SHAPE) == pytest.approx(RUNTIME_GIB["actor"] + 4e9 / GIB + 1)


def test_an_engine_takes_its_share_of_a_gpu_whatever_it_needs() -> None:
    wanted = config(
        model={"dtype": "bfloat16", "max_length": 4096},
        actors={
            "in_process": False,
            "max_concurrent": 1000,
            "engine": {"gpu_memory_utilization": 0.5, "tensor_parallel_size": 2},
        },
    )
    planned = plan(wanted, 8, gpus=("0", "1", "2"), gpu=toy(20), shape=SHAPE)
    actor = planned.roles[-1]
    assert actor.memory_gib == 10 and actor.gpus == ("1", "2")
    cache = 2 * (10 - 3.0) * GIB - 2e9  # of the two GPUs, beside weights and runtime
    held = int(cache // (2 * 2 * 24 * 512 * 4096))
    assert any(f"the KV cache holds {held} rollouts of 4096 tokens" in n for n in planned.notes)
    assert any(f"hold {2e9 / GIB:.1f} GiB of weights in the host" in n for n in planned.notes)
    lines = [str(fit) for fit in planned.gpus]
    assert lines[1] == "actor_000 10.0 <= 20.0 GiB of a toy: fits"
    assert lines[0].endswith("> 20.0 GiB of a toy: does not fit")
    assert [fit.index for fit in planned.gpus] == ["0", "1", "2"]


def test_roles_on_one_gpu_are_added_up() -> None:
    wanted = config(run={"colocate": True}, actors={"engine": {"gpu_memory_utilization": 0.5}})
    (fit,) = plan(wanted, 8, gpus=("0",), gpu=toy(40), shape=SHAPE).gpus
    assert fit.roles == ("learner_000", "actor_000")
    assert fit.needs_gib[1] == 20
    assert fit.fits is (fit.needs_gib[0] <= 20)


def test_an_engine_without_room_for_one_rollout_is_said() -> None:
    wanted = config(model={"max_length": 10**6})
    notes = plan(wanted, 8, gpus=("0", "1"), gpu=toy(20), shape=SHAPE).notes
    assert any("the actor does not fit" in note and "raise tensor_par" in note for note in notes)


def test_gpus_by_name() -> None:
    assert [gpu.name for gpu in parse_gpus("3xH100")] == ["H100-80"] * 3
    assert parse_gpus("a100-40GB")[0].memory_mib == 40 * 1024
    for text, error in (
        ("8xA100", "must be a number and a GPU, such as 8xH100-80, of A100-40"),
        ("2xH10-80", "got '2xH10-80'; did you mean 2xH100-80?"),
        ("0xH100", "got '0xH100'"),
        ("two of them", "got 'two of them'"),
    ):
        with pytest.raises(ConfigError) as raised:
            parse_gpus(text)
        assert error in str(raised.value)


def toy(gib: int) -> Gpu:
    return Gpu(name="toy", memory_mib=gib * 1024, driver="")


def visible(planned: Plan) -> dict[str, str]:
    return {role.name: role.env["CUDA_VISIBLE_DEVICES"] for role in planned.roles}


def test_rollouts_by_priority_with_a_partial_correction_are_warned_of() -> None:
    for beta0, item, warned in ((0.4, "rollout", True), (1.0, "rollout", False), (0.4, "group", 0)):
        buffer = {"sampler": "prioritized", "item": item, "priority": {"beta0": beta0}}
        found = plan(config(buffer=buffer), 2, shape=SHAPE).notes
        assert any("un-centres advantages" in note for note in found) == bool(warned)


def notes(num_cores: int, count: int) -> tuple[str, ...]:
    return plan(config(actors={"count": count}), num_cores, shape=SHAPE).notes


def test_an_actor_alone_has_all_cores_and_its_own_gpus() -> None:
    alone = plan(config(actors={"count": 1}, learner={"ranks": 4}), 6, only="actor")
    assert [(role.kind, role.threads) for role in alone.roles] == [("actor", 6)]
    engine = {"tensor_parallel_size": 2}
    on_gpus = plan(config(actors={"count": 1, "engine": engine}), 6, gpus=("3", "5"), only="actor")
    assert on_gpus.roles[0].gpus == ("3", "5")
    with pytest.raises(ConfigError, match=r"actors\.count=1 x 2 a engine need 2 GPUs, there are 1"):
        plan(config(actors={"count": 1, "engine": engine}), 6, gpus=("3",), only="actor")
