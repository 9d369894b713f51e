"""The command line: subcommands, imported on use, and the only place that prints usage.

Exit codes: 0 finished, 1 a role failed, 2 bad usage or configuration, 130 interrupted cleanly.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from async_r1 import __version__
from async_r1.errors import AsyncR1Error, ConfigError
from async_r1.schema import nearest

COMMANDS = {
    "launch": ("async_r1.compose:launch", "train: start buffer, actors and learner"),
    "sft": ("async_r1.compose:sft", "supervised fine-tuning: make a cold start"),
    "report": ("async_r1.report:main", "write RUN/report.html again"),
    "doctor": ("async_r1.doctor:main", "what this machine has, and what it lacks"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if args[0] == "--version":
        print(f"async_r1 {__version__}")
        return 0
    name, *rest = args
    if name not in COMMANDS:
        match = nearest(name, COMMANDS)
        hint = f"did you mean {match}?" if match else f"choose one of: {', '.join(COMMANDS)}"
        return _refuse(f"unknown command {name!r}; {hint}")
    if name in ("launch", "sft") and {"-h", "--help"} & set(rest):
        from async_r1.help import options_text

        print(options_text(name))
        return 0
    try:
        return _load(COMMANDS[name][0])(rest)
    except ConfigError as error:
        return _refuse(str(error))
    except AsyncR1Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _load(target: str) -> Callable[[list[str]], int]:
    module, _, function = target.partition(":")
    return getattr(import_module(module), function)  # type: ignore[no-any-return]


def _refuse(text: str) -> int:
    print(f"error: {text}", file=sys.stderr)
    return 2


def _usage() -> str:
    lines = ["async_r1 <command> [overrides]", ""]
    lines += [f"  {name:8} {doc}" for name, (_, doc) in COMMANDS.items()]
    lines += ["", "async_r1 launch --help lists every option; async_r1 launch experiment=demo trains"]
    return "\n".join(lines)
