"""Hydra under `launch` and `sft`: composes plain values, which `schema.build` then checks.

Hydra knows every option from the schema's defaults, so any can be overridden without `+` and an
unknown one is an error; all types and bounds are checked by us, for one-line errors.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

from async_r1.config import Config
from async_r1.config_dir import config_dir, groups, resolve_path
from async_r1.errors import ConfigError
from async_r1.override_errors import explain
from async_r1.rules import check
from async_r1.schema import build, to_dict, walk

FREE_FORM = ("actors.engine.", "learner.deepspeed.", "task.options.")


def launch(argv: list[str]) -> int:
    """`async_r1 launch`: compose, then train."""
    from async_r1.launch import launch as run

    return _with_hydra("launch", argv, run)


def sft(argv: list[str]) -> int:
    """`async_r1 sft`: compose, then fine-tune."""
    from async_r1.launch import fine_tune as run

    return _with_hydra("sft", argv, run)


def compose(overrides: list[str]) -> Config:
    """The configuration of a list of overrides, checked, without running anything.

    Raises:
        ConfigError: an override is unknown, or a value breaks a rule.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    _register_schema()
    GlobalHydra.instance().clear()
    _check_names(overrides)
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            return _build(hydra_compose("config", overrides=[_free(o) for o in overrides]))
    except ConfigError:
        raise
    except Exception as error:
        raise explain(error) from None


def _with_hydra(command: str, argv: list[str], run: Callable[..., int]) -> int:
    """Run through `hydra.main`, which brings `-m`, `--cfg` and the output directories."""
    import hydra

    _register_schema()
    overrides = [arg for arg in argv if not arg.startswith("-") and "=" in arg]
    _check_names(overrides)
    sys.argv = [f"async_r1 {command}", *(_free(arg) for arg in argv)]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raised here, so that we can say it in one line
    codes: list[int] = []

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")
    def job(cfg: Any) -> None:
        from hydra.core.hydra_config import HydraConfig

        config = _build(cfg)
        sweep_dir = ""
        if HydraConfig.get().mode.name == "MULTIRUN":
            sweep_dir = HydraConfig.get().runtime.output_dir
        task_overrides = list(HydraConfig.get().overrides.task)
        codes.append(run(config, overrides=task_overrides, run_dir=sweep_dir))

    try:
        job()
    except ConfigError:
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("hydra", "omegaconf", "antlr4"):
            raise
        raise explain(error) from None
    return max(codes, default=0)


def _build(cfg: Any) -> Config:
    from omegaconf import OmegaConf

    values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    if isinstance(values.get("model"), dict):
        values["model"]["path"] = resolve_path(str(values["model"].get("path", "")))
    config = build(Config, {str(key): value for key, value in values.items()})
    check(config)
    return config


def _register_schema() -> None:
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=to_dict(Config()))


def _free(arg: str) -> str:
    """Options below a free-form mapping exist by being named."""
    return f"++{arg}" if arg.startswith(FREE_FORM) else arg


def _check_names(overrides: list[str]) -> None:
    """Refuse unknown names before Hydra does, with the nearest right spelling.

    Raises:
        ConfigError: a name is neither an option, nor a section, nor a group.
    """
    from async_r1.override_errors import unknown_choice, unknown_option

    names = [name for name, _, _ in walk(Config)]
    sections = {name.rpartition(".")[0] for name in names}
    choices = groups()
    for override in overrides:
        name, _, value = override.lstrip("+~").partition("=")
        if name.startswith("hydra.") or name.startswith(FREE_FORM) or name.startswith("hydra/"):
            continue
        if name in choices and "." not in name:
            for choice in value.split(","):
                if choice not in choices[name]:
                    raise unknown_choice(name, choice, choices[name])
        elif name not in names and name not in sections:
            raise unknown_option(name, [*names, *choices])
