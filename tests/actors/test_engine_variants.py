"""Engines other than the shared one, each in a process of its own: tied embeddings, own core."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

_CHECK = """
import os, sys
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = sys.argv[2]
import numpy as np
from async_r1.config import Config
from async_r1.schema import build
from actors.engine import SamplingEngine
from tests.actors.policy import Policy, drain, merged, random_prompt, request

def main():
    config = build(Config, {
        "model": {"path": sys.argv[1], "max_length": 256},
        "actors": {"max_concurrent": 8, "in_process": sys.argv[2] == "0",
                   "engine": {"enforce_eager": True, "kv_cache_memory_bytes": 64 << 20}},
        "weights": {"backend": "gloo", "timeout_s": 15.0},
    })
    engine = SamplingEngine(config, seed=0, stop_token_ids=[1])
    policy = Policy(sys.argv[1])
    policy.join(engine)
    for version in range(3):
        prompt = random_prompt(version)
        engine.submit(request(1, prompt, 40))
        tokens, logprobs, versions = merged(drain(engine)[1])
        error = np.abs(policy.logprobs(prompt, tokens) - logprobs).max()
        assert error < 1e-4, (version, error)
        assert set(versions) == {version}, versions
        policy.perturb(version)
        policy.publish(engine, version + 1)
    engine.submit(request(2, random_prompt(9), 60))
    seen = [chunk.policy_version for _ in range(6) for chunk in engine.step()]
    policy.publish(engine, 4)
    seen += [chunk.policy_version for chunk in drain(engine).get(2, [])]
    assert seen == sorted(seen) and set(seen) <= {3, 4}, seen
    engine.close()
    print("checked")

if __name__ == "__main__":
    main()
"""


def _check(path: Path, own_process: bool, tmp_path: Path) -> None:
    script = tmp_path / "check.py"
    script.write_text(_CHECK)
    result = subprocess.run(
        [sys.executable, str(script), str(path), "1" if own_process else "0"],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert result.returncode == 0 and "checked" in result.stdout, result.stderr[-3000:]


def test_tied_embeddings_sample_from_the_new_head_after_an_update(
    nano_tied_dir: Path, tmp_path: Path
) -> None:
    _check(nano_tied_dir, own_process=False, tmp_path=tmp_path)


def test_an_engine_in_its_own_process_stamps_and_updates_alike(
    nano_dir: Path, tmp_path: Path
) -> None:
    _check(nano_dir, own_process=True, tmp_path=tmp_path)
