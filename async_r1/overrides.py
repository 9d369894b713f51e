"""The arguments of `launch` and `sft`, checked by us before Hydra sees them.

Hydra would advise `+learner.lrr=1` for a misspelt name and print several lines; here every mistake
is one line with the nearest right spelling, from any section.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from async_r1.config import Config
from async_r1.config_dir import groups
from async_r1.errors import ConfigError
from async_r1.schema import nearest, walk

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

_SEE = "async_r1 launch --help lists every option"


@dataclass(frozen=True)
class Arguments:
    """What Hydra gets: its flags, and overrides that it will not have to complain about."""

    flags: list[str]
    overrides: list[str]


def parse(argv: Sequence[str]) -> Arguments:
    """Split and check the arguments.

    An option needs no `+`, and gets `++` where it is a key of a mapping that is free by design
    (`actors.engine.max_num_seqs`); a `+` or `++` that was given is accepted and means nothing.

    Raises:
        ConfigError: a flag, name, group choice or syntax is wrong.
    """
    parser = _Parser(add_help=False, allow_abbrev=False, prog="")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-c", "--cfg", choices=("job", "hydra", "all"))
    parser.add_argument("-p", "--package")
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--config-dir", type=Path)
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_intermixed_args(argv)
    flags = ["--multirun"] * given.multirun + ["--resolve"] * given.resolve
    flags += ["--cfg", given.cfg] if given.cfg else []
    flags += ["--package", given.package] if given.package else []
    extra = []
    if given.config_dir is not None:
        extra.append(given.config_dir.absolute())
        if not extra[0].is_dir():
            raise ConfigError(f"--config-dir must be a directory, got {str(given.config_dir)!r}")
        flags += ["--config-dir", str(extra[0])]
    names = _Names(groups(extra))
    return Arguments(flags, [names.checked(text, given.multirun) for text in given.overrides])


class _Names:
    """Every name that may stand left of an `=`."""

    def __init__(self, choices: Mapping[str, list[str]]) -> None:
        self._choices = choices
        leaves = {name: default for name, _, default in walk(Config) if name not in choices}
        self._leaves = list(leaves)
        self._sections = {name.rpartition(".")[0] for name in leaves} - {""}
        self._mappings = [name for name, default in leaves.items() if isinstance(default, dict)]
        self._lists = [name for name, default in leaves.items() if isinstance(default, list)]

    def checked(self, text: str, is_sweep: bool) -> str:
        """The override as Hydra should read it.

        Raises:
            ConfigError: it is not `name=value`, or its name or choice is unknown.
        """
        text = text.lstrip("+")
        override = self._read(text)
        name = override.key_or_group
        if override.is_sweep_override() and not is_sweep:
            raise ConfigError(
                f"{name} must be one value, got {text.partition('=')[2]!r}; add -m to sweep over "
                f"several, write a list as [a,b], quote a text that has commas"
            )
        if name.startswith(("hydra.", "hydra/")):
            return text
        if override.is_delete():
            raise ConfigError(f"options cannot be removed, got {text!r}; give {name} a value")
        if name in self._choices:
            for choice in _values(override):
                self._check_choice(name, choice)
            return text
        if name in self._sections:
            raise ConfigError(
                f"{name} is a section, got {text!r}; set {name}.<option>=... one by one"
            )
        if name in self._leaves:
            return f"++{text}" if name in self._mappings else text
        if _below(name, self._mappings) or _below(name, self._lists):
            return f"++{text}"
        raise ConfigError(f"unknown option {name}; {self._suggestion(name)}")

    def _read(self, text: str) -> "Override":
        from hydra.core.override_parser.overrides_parser import OverridesParser
        from hydra.errors import HydraException

        if "=" not in text and not text.startswith("~"):
            raise ConfigError(f"an override is name=value, got {text!r}{self._as_choice(text)}")
        try:
            return OverridesParser.create().parse_override(text)
        except HydraException:
            name, _, value = text.partition("=")
            raise ConfigError(
                f"cannot read {text!r}; quote a text that has special characters, also for the "
                f"shell: '{name}=\"{value}\"'"
            ) from None

    def _check_choice(self, group: str, choice: Any) -> None:
        choices = self._choices[group]
        if choice in choices:
            return
        match = nearest(str(choice), choices)
        hint = f"; did you mean {group}={match}?" if match else ""
        if isinstance(choice, dict):
            hint = f"; set its options one by one: {group}.<option>=..."
        raise ConfigError(f"{group} must be one of {', '.join(choices)}, got {choice!r}{hint}")

    def _as_choice(self, text: str) -> str:
        for group, choices in self._choices.items():
            if text in choices:
                return f"; did you mean {group}={text}?"
        return ""

    def _suggestion(self, name: str) -> str:
        """The same option in another section, else what is spelt most alike."""
        leaf = name.rpartition(".")[2]
        same = [known for known in self._leaves if known.rpartition(".")[2] == leaf]
        if same:
            match = nearest(name, same) if "." in name else None
            named = [match] if match else same
        else:
            match = nearest(name, [*self._leaves, *self._choices])
            leaves = {known.rpartition(".")[2]: known for known in self._leaves}
            alike = nearest(leaf, leaves)
            named = [match] if match else [leaves[alike]] if alike else []
        return f"did you mean {' or '.join(named)}?" if named else _SEE


class _Parser(argparse.ArgumentParser):
    """Raises instead of printing usage."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; {_SEE.replace('option', 'flag')}")


def _below(name: str, parents: Iterable[str]) -> bool:
    return any(name.startswith((f"{parent}.", f"{parent}[")) for parent in parents)


def _values(override: "Override") -> list[Any]:
    """The choices that an override of a group names; those of a glob are right by making."""
    if override.is_sweep_override():
        from hydra.core.override_parser.types import ChoiceSweep

        sweep = override.value()
        return [_plain(item) for item in sweep.list] if isinstance(sweep, ChoiceSweep) else []
    value = override.value()
    return list(value) if isinstance(value, list) else [_plain(value)]


def _plain(value: Any) -> Any:
    """Text of a quoted string; other elements as they are."""
    return getattr(value, "text", value)
