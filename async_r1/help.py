"""The text of `async_r1 launch --help`: the groups and their choices, then every option."""

import dataclasses
import types
import typing
from typing import Any

from async_r1.config import Config
from async_r1.config_dir import groups
from async_r1.schema import walk

_EXAMPLES = """\
usage: async_r1 {command} [group=choice] [option=value] [flags]

  async_r1 {command} experiment=smoke learner.lr=1e-5
  async_r1 {command} -m experiment=smoke seed=0,1,2    one run after the other, in sweeps/

flags
  -m, --multirun         every combination of the comma-separated values
  -c, --cfg job          print the composed configuration and exit
  -p, --package SECTION  of it only this section
  --resolve              with interpolations resolved
  --config-dir DIR       a directory with groups and presets of your own"""
_KINDS = {int: "integer", float: "number", bool: "true|false", str: "text", Any: "any"}
_SIGNS = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))


def options_text(command: str, doc: str) -> str:
    """Everything that a command takes; from the schema and the configs tree, without Hydra."""
    lines = [f"async_r1 {command}: {doc}", "", _EXAMPLES.format(command=command), "", "groups"]
    choices = groups()
    lines += [f"  {group:14} {', '.join(choices[group])}" for group in choices]
    for section, options in all_options().items():
        lines += ["", section or "options"]
        width = max(len(option.name) for option in options)
        for option in options:
            lines.append(f"  {option.name:{width}}  {option.kind} = {option.default}")
            lines.append(f"  {'':{width}}    {option.doc}")
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of the schema, as text."""

    name: str
    kind: str
    default: str
    doc: str


def all_options() -> dict[str, list[Option]]:
    """Options by section, "" being the root, without those that a group of their name sets."""
    choices = groups()
    sections: dict[str, list[Option]] = {}
    for option in options_of(Config):
        if option.name not in choices:
            sections.setdefault(option.name.rpartition(".")[0], []).append(option)
    return sections


def options_of(cls: type, section: str = "") -> list[Option]:
    """Options of a dataclass with `opt` fields; `section` goes before their names."""
    before = f"{section}." if section else ""
    return [
        Option(f"{before}{name}", _kind(cls, name), _value(default), _doc(field))
        for name, field, default in walk(cls)
    ]


def _doc(field: dataclasses.Field[Any]) -> str:
    bounds = field.metadata["bounds"]
    rules = [f"{sign} {bounds[key]:g}" for key, sign in _SIGNS if key in bounds]
    text: str = field.metadata["doc"]
    return f"{text}; {' and '.join(rules)}" if rules else text


def _kind(cls: type, name: str) -> str:
    hint: Any = cls
    for part in name.split("."):
        hint = typing.get_type_hints(hint)[part]
    return _spell(hint)


def _spell(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "|".join(_value(choice) for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        return "|".join(_spell(argument) for argument in arguments)
    if origin is list:
        return f"list of {_spell(arguments[0])}"
    if origin is dict:
        return "mapping"
    if dataclasses.is_dataclass(hint):
        fields = ", ".join(field.name for field in dataclasses.fields(hint))
        return f"{{{fields}}}"
    return str(_KINDS[hint])


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value == "":
        return "''"
    return f"{value:g}" if isinstance(value, float) else f"{value}"
