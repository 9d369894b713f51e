"""The command line: subcommands, imported on use, and the only place that prints usage.

Exit codes: 0 finished, 1 a role failed, 2 bad usage or configuration, 130 interrupted cleanly.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from async_r1 import __version__
from async_r1.disk import disk_full_text
from async_r1.errors import AsyncR1Error, ConfigError, RunDirError, TaskError
from async_r1.schema import nearest

FAILED, BAD_USAGE, INTERRUPTED = 1, 2, 130


@dataclass(frozen=True)
class Command:
    """One subcommand: `module:function` takes its arguments and returns the exit code."""

    target: str
    doc: str
    composes: bool = False  # takes overrides of the configuration
    argument: str = ""  # that stands before them

    def load(self) -> Callable[[list[str]], int]:
        module, _, function = self.target.partition(":")
        main: Callable[[list[str]], int] = getattr(importlib.import_module(module), function)
        return main


COMMANDS = {
    "launch": Command("async_r1.launch:main", "train: start buffer, actors and learner", True),
    "sft": Command("async_r1.fine_tune:main", "fine-tune on demonstrations: a cold start", True),
    "eval": Command(
        "async_r1.evaluate:main", "accuracy and pass@k of a checkpoint", True, "CHECKPOINT"
    ),
    "curate": Command("async_r1.curate:main", "label prompts with the model's pass rate", True),
    "report": Command("async_r1.report:main", "write the report of a run directory again"),
    "journal": Command("async_r1.journal:main", "look into the journal: who trained on what"),
    "doctor": Command("async_r1.doctor:main", "what this machine has, and what it lacks"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else BAD_USAGE
    if arguments[0] in ("-V", "--version"):
        print(f"async_r1 {__version__}")
        return 0
    name, *rest = arguments
    command = COMMANDS.get(name)
    if command is None:
        match = nearest(name, COMMANDS)
        hint = f"did you mean {match}?" if match else f"there are {', '.join(COMMANDS)}"
        return _complain(f"unknown command {name!r}; {hint}", BAD_USAGE)
    if command.composes and {"-h", "--help"} & set(rest):
        from async_r1.help import options_text

        print(options_text(f"{name} {command.argument}".strip(), command.doc))
        return 0
    try:
        return command.load()(rest)
    except (ConfigError, TaskError, RunDirError) as error:
        return _complain(str(error), BAD_USAGE)
    except AsyncR1Error as error:
        return _complain(str(error), FAILED)
    except OSError as error:
        if text := disk_full_text(error, Path.cwd()):
            return _complain(text, FAILED)
        raise
    except KeyboardInterrupt:
        return INTERRUPTED


def usage() -> str:
    """What `async_r1 --help` prints."""
    commands = [f"  {name:8} {command.doc}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"async_r1 {__version__}: asynchronous reinforcement learning of reasoning models",
            "",
            "usage: async_r1 <command> [...]",
            "",
            *commands,
            "",
            "async_r1 launch experiment=demo    train the demo",
            "async_r1 launch --help             every option",
        ]
    )


def _complain(text: str, code: int) -> int:
    print(f"error: {text}", file=sys.stderr)
    return code
