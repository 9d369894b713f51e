"""Where the Hydra tree is: inside the package once installed, beside it in a checkout."""

from pathlib import Path

from async_r1.errors import ConfigError

_PREFIX = "configs:"


def config_dir() -> Path:
    """The directory with config.yaml and the groups; a checkout's own comes first.

    Raises:
        ConfigError: this installation has none.
    """
    here = Path(__file__).resolve().parent
    for candidate in (here.parent / "configs", here / "configs"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise ConfigError(f"no configs directory beside or inside {here}; install async_r1 again")


def groups() -> dict[str, list[str]]:
    """Config groups and their choices."""
    return {
        group.name: sorted(path.stem for path in group.glob("*.yaml"))
        for group in sorted(config_dir().iterdir())
        if group.is_dir() and any(group.glob("*.yaml"))
    }


def resolve_path(path: str) -> str:
    """`configs:checkpoints/nano` to a path inside the tree; anything else as it is.

    Raises:
        ConfigError: nothing is there.
    """
    if not path.startswith(_PREFIX):
        return path
    resolved = config_dir() / path.removeprefix(_PREFIX)
    if not resolved.exists():
        raise ConfigError(f"model.path {path} does not exist: {resolved}")
    return str(resolved)
