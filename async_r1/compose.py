"""From command line to configurations: Hydra composes plain values, `schema.build` checks them.

Hydra composes and is gone before anything starts. So a sweep with a bad value in its last job
fails before its first, and Hydra's own error printing never stands around ours.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from async_r1 import overrides
from async_r1.config import Config
from async_r1.config_dir import config_dir
from async_r1.errors import AsyncR1Error, ConfigError
from async_r1.schema import build, to_dict


@dataclass(frozen=True)
class Job:
    """One run to start."""

    config: Config
    overrides: tuple[str, ...] = ()
    directory: str = ""  # where a sweep puts it; empty: as run.dir and run.name say


def compose_jobs(
    command: str,
    argv: Sequence[str],
    prepare: Callable[[Config], Config],
    base: Config | None = None,
) -> list[Job]:
    """The jobs of a command line: one, one for each combination of a sweep, none after `--cfg`.

    Args:
        command: for Hydra's own messages.
        prepare: called with each configuration; refuses or completes it.
        base: what the arguments change, in place of the defaults; a section whose group they name
            is that group's alone.

    Raises:
        ConfigError: one line for the first thing that is wrong.
    """
    arguments = overrides.parse(argv)
    defaults = to_dict(Config())
    dropped: list[str] = []
    if base is not None:
        defaults, dropped = _based(to_dict(base), defaults, arguments.overrides)
    import hydra
    from hydra.core.config_store import ConfigStore

    # The defaults as plain values: a known option needs no `+`, and all type checks are ours.
    ConfigStore.instance().store(name="schema", node=defaults)
    jobs: list[Job] = []
    refused: list[AsyncR1Error] = []

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")
    def collect(composed: Any) -> None:
        try:
            job = _job(composed)
            jobs.append(replace(job, config=prepare(job.config)))
        except AsyncR1Error as error:  # Hydra would print lines of its own around it
            refused.append(error)

    given = [*arguments.flags, *dropped, *arguments.overrides]
    with _arguments_for_hydra([f"async_r1 {command}", *given]):
        try:
            collect()
        except Exception as error:
            raise _one_line(error) from error
    if refused:
        raise refused[0]
    return jobs


def compose(argv: Sequence[str] = ()) -> Config:
    """The configuration of a list of overrides, types checked, without the rules of a command.

    Raises:
        ConfigError: one line for the first thing that is wrong.
    """
    (job,) = compose_jobs("launch", argv, lambda config: config)
    return job.config


def run_jobs(jobs: Sequence[Job], run: Callable[[Job], int]) -> int:
    """Run one job after the other; the exit code of the worst. An interrupt ends the rest too."""
    worst = 0
    for job in jobs:
        code = run(job)
        worst = max(worst, code)
        if code > 128:
            break
    return worst


def _based(
    base: dict[str, Any], defaults: dict[str, Any], overrides: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """The schema with the base's values, and overrides that keep the default groups off them."""
    from omegaconf import OmegaConf

    root: Any = OmegaConf.load(config_dir() / "config.yaml")
    groups = {name for entry in root.defaults if not isinstance(entry, str) for name in entry}
    groups = {name for name in groups if name in defaults and name != "experiment"}
    named = {text.lstrip("+").partition("=")[0] for text in overrides} & groups
    dropped = sorted(groups - named)
    unnamed = f"hydra.job.config.override_dirname.exclude_keys=[{','.join(dropped)}]"
    values = base | {name: defaults[name] for name in named}
    return values, [*(f"~{name}" for name in dropped), unnamed]


def _job(composed: Any) -> Job:
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    hydra = HydraConfig.get()
    try:
        values: Any = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        raise _one_line(error) from None
    # Not what the preset says, which a preset built on it would repeat.
    values["experiment"] = hydra.runtime.choices.get("experiment") or values["experiment"]
    swept = hydra.mode is not None and hydra.mode.name == "MULTIRUN"
    return Job(
        config=build(Config, values),
        overrides=tuple(text.lstrip("+") for text in hydra.overrides.task if text[0] != "~"),
        directory=hydra.runtime.output_dir if swept else "",
    )


@contextmanager
def _arguments_for_hydra(argv: list[str]) -> Iterator[None]:
    """`hydra.main` reads sys.argv; HYDRA_FULL_ERROR makes it raise instead of print and exit."""
    saved_argv, saved_mode = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = argv, "1"
    try:
        yield
    finally:
        sys.argv = saved_argv
        del os.environ["HYDRA_FULL_ERROR"]
        if saved_mode is not None:
            os.environ["HYDRA_FULL_ERROR"] = saved_mode


def _one_line(error: Exception) -> ConfigError:
    """What Hydra and OmegaConf still find wrong, such as a preset that names a missing file.

    Any other exception is a mistake of ours and passes with its traceback.
    """
    cause = error.__cause__ or error
    module = type(cause).__module__.partition(".")[0]
    if module not in ("hydra", "omegaconf", "yaml") and not isinstance(cause, OSError):
        raise error
    text = str(cause).partition("Config search path:")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    field = getattr(cause, "full_key", None)
    return ConfigError(f"{field}: {lines[0]}" if field else "; ".join(lines))
