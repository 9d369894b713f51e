"""Hydra's and OmegaConf's errors as one line for a terminal."""

from collections.abc import Sequence

from async_r1.errors import ConfigError
from async_r1.schema import nearest

_SEE = "see every option: async_r1 launch --help"


def unknown_option(name: str, known: Sequence[str]) -> ConfigError:
    """An option that does not exist; the nearest in its own or in any section is named."""
    section, _, leaf = name.rpartition(".")
    match = nearest(name, known)
    if match is None or match.rpartition(".")[2] != leaf:
        same_leaf = [option for option in known if option.rpartition(".")[2] == leaf]
        match = nearest(name, same_leaf) or (same_leaf[0] if len(same_leaf) == 1 else match)
    hint = f"did you mean {match}?" if match else _SEE
    return ConfigError(f"unknown option {name}; {hint}")


def unknown_choice(group: str, choice: str, choices: Sequence[str]) -> ConfigError:
    """A file that the group does not have."""
    match = nearest(choice, choices)
    hint = f"; did you mean {match}?" if match else ""
    return ConfigError(f"{group} must be one of {', '.join(choices)}, got {choice!r}{hint}")


def explain(error: Exception) -> ConfigError:
    """Whatever Hydra still finds wrong, in its own words but on one line."""
    cause = error.__cause__ or error
    text = " ".join(str(cause).split())
    return ConfigError(text or type(cause).__name__)
