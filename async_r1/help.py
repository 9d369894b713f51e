"""The text of `async_r1 launch --help`: groups with their choices, then every option."""

from async_r1.config import Config
from async_r1.config_dir import groups
from async_r1.schema import walk


def options_text(command: str) -> str:
    """All options of a command, from the schema and the config tree; imports no Hydra."""
    lines = [
        f"async_r1 {command} [group=choice] [option=value] [-m] [--cfg job]",
        "",
        "  -m         sweep: every combination of comma-separated values, one run each",
        "  --cfg job  print the composed configuration and exit",
        "",
        "Groups",
    ]
    lines += [f"  {name:12} {', '.join(choices)}" for name, choices in groups().items()]
    section = None
    for name, field, default in walk(Config):
        head = name.rpartition(".")[0]
        if head != section:
            lines += ["", head or "Options"]
            section = head
        bounds = ", ".join(
            f"{sign} {field.metadata['bounds'][key]:g}"
            for key, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
            if key in field.metadata["bounds"]
        )
        lines.append(
            f"  {name} = {_show(default)}\n      {field.metadata['doc']}"
            f"{f' [{bounds}]' if bounds else ''}"
        )
    return "\n".join(lines)


def _show(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "''" if value == "" else str(value)
