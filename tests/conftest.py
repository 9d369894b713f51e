"""Fixtures shared by all tests; nothing heavy is imported until a test asks for it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from actors.engine import SamplingEngine

# Set before any test imports torch or vLLM: one thread each, engine in this process.
os.environ.update(
    OMP_NUM_THREADS="1",
    OMP_WAIT_POLICY="PASSIVE",
    DS_ACCELERATOR="cpu",
    TOKENIZERS_PARALLELISM="false",
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
    VLLM_LOGGING_LEVEL="ERROR",
)


@pytest.fixture(scope="session")
def nano_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nano model with random weights, untied."""
    from learner.nano import build_nano

    path = tmp_path_factory.mktemp("nano") / "untied"
    build_nano(path, seed=1)
    return path


@pytest.fixture(scope="session")
def nano_tied_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nano model with random weights and tied embeddings."""
    from learner.nano import build_nano

    path = tmp_path_factory.mktemp("nano") / "tied"
    build_nano(path, seed=2, tie_embeddings=True)
    return path


@pytest.fixture(scope="session")
def engine_values(nano_dir: Path) -> dict[str, Any]:
    """Configuration values under which a small CPU engine starts."""
    return {
        "model": {"path": str(nano_dir), "max_length": 256},
        "actors": {
            "max_concurrent": 32,
            "engine": {"enforce_eager": True, "kv_cache_memory_bytes": 64 << 20},
        },
        "weights": {"backend": "gloo", "timeout_s": 15.0},
    }


@pytest.fixture(scope="session")
def shared_engine(engine_values: dict[str, Any]) -> "Iterator[SamplingEngine]":
    """The one vLLM engine of the session; tests leave it without requests in flight."""
    from actors.engine import SamplingEngine
    from async_r1.config import Config
    from async_r1.schema import build

    engine = SamplingEngine(build(Config, engine_values), seed=0, stop_token_ids=[1])
    yield engine
    engine.close()


@pytest.fixture
def engine(shared_engine: "SamplingEngine") -> "Iterator[SamplingEngine]":
    assert shared_engine.num_in_flight == 0
    yield shared_engine
    for key in list(shared_engine._in_flight):
        shared_engine.abort(key)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with the shared engine last: vLLM initialises this process's torch.distributed, which
    the learner's tests need for themselves."""
    items.sort(key=lambda item: "shared_engine" in getattr(item, "fixturenames", ()))
