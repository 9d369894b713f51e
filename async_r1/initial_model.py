"""The model of `model.init=random`, made before the roles start.

By another process, because the launcher itself never imports torch.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace

from async_r1.config import Config
from async_r1.errors import ConfigError, DeadlineError
from async_r1.run_dir import RunDir

MAKES_IT = (sys.executable, "-P", "-m", "learner.random_model")


def make_initial_model(config: Config, run_dir: RunDir, env: Mapping[str, str]) -> Config:
    """Write RUN/init_model, if the model is to be random; returns what starts from it.

    Raises:
        ConfigError: `model.shape` makes no model.
        DeadlineError: it took longer than `run.start_timeout_s`.
    """
    if config.model.init != "random":
        return config
    path = run_dir.root.resolve() / "init_model"
    command = [
        *(*MAKES_IT, "--out", str(path), "--seed", str(config.seed)),
        *("--dtype", config.model.dtype, "--shape", json.dumps(config.model.shape)),
    ]
    timeout_s = config.run.start_timeout_s
    try:
        done = subprocess.run(
            command, env=dict(env), capture_output=True, text=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        raise DeadlineError(
            f"model.init=random: the weights of model.shape were not written within "
            f"run.start_timeout_s={timeout_s:g} s"
        ) from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ConfigError(lines[-1])
    return replace(config, model=replace(config.model, init="", path=str(path)))
