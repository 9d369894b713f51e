"""Where the Hydra tree is: inside the package of an installed wheel, beside it in a checkout."""

from collections.abc import Sequence
from pathlib import Path

from async_r1.errors import ConfigError

PREFIX = "configs:"


def config_dir() -> Path:
    """The directory that holds config.yaml, the groups and the shipped checkpoints.

    Raises:
        ConfigError: this installation has none.
    """
    here = Path(__file__).resolve().parent
    for candidate in (here / "configs", here.parent / "configs"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise ConfigError(f"no configs directory in or beside {here}: install async_r1 again")


def groups(extra: Sequence[Path] = ()) -> dict[str, list[str]]:
    """Config groups and their choices, sorted.

    Args:
        extra: directories of the user's own (`--config-dir`) that add to the tree.
    """
    found: dict[str, set[str]] = {}
    for root in (config_dir(), *extra):
        for path in root.glob("*/*.yaml"):
            found.setdefault(path.parent.name, set()).add(path.stem)
    return {group: sorted(found[group]) for group in sorted(found)}


def resolve_path(path: str) -> str:
    """An absolute directory for `configs:...` and for local paths; a Hugging Face name as it is.

    Raises:
        ConfigError: it must be a directory, and is none.
    """
    if path.startswith(PREFIX):
        inside = path.removeprefix(PREFIX)
        directory = config_dir() / inside
        if (directory / "config.json").is_file():
            return str(directory)
        shipped = sorted(
            f"{PREFIX}{file.parent.relative_to(config_dir())}"
            for file in config_dir().glob("*/*/config.json")
        )
        listed = f"it has {', '.join(shipped)}" if shipped else "it has none"
        raise ConfigError(f"model.path must be a model in the configs tree, got {path!r}; {listed}")
    directory = Path(path).expanduser()
    if (directory / "config.json").is_file():
        return str(directory.resolve())
    if path.startswith(("/", "./", "../", "~")) or path.count("/") > 1 or directory.is_dir():
        raise ConfigError(
            f"model.path must be a directory with a config.json or a Hugging Face name, "
            f"got {path!r}"
        )
    return path
