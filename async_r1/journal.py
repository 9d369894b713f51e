"""`async_r1 journal RUN [TABLE]`: what the buffer's journal says, while a run goes on or after it.

Rollouts with their leases and fates, draws with their probabilities, who trained on what at which
version; printed, as JSON lines, or all of it as an SQLite database.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from async_r1.errors import ConfigError, JournalError, RunDirError
from async_r1.journal_history import read_history
from async_r1.journal_sqlite import write_sqlite
from async_r1.journal_summary import first_problems, summarize, summary_text
from async_r1.journal_tables import TABLES, Filter, Tables
from async_r1.journal_text import rollout_text, table_text
from async_r1.run_dir import RunDir, read_json

_SHOWN = 40  # rows


def main(argv: Sequence[str]) -> int:
    """Print what is asked for; returns the exit code.

    Raises:
        RunDirError: there is no journal, or the database cannot be written.
        ConfigError: a range of versions that is none.
    """
    try:
        return _show(_parser().parse_args(argv))
    except BrokenPipeError:  # of `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _show(args: argparse.Namespace) -> int:
    wanted = Filter(args.group, args.rollout, args.prompt, _versions(args.version))
    table = args.table or ("summary" if wanted == Filter() else "rollouts")
    one = table == "rollouts" and args.rollout is not None
    run_dir = RunDir(args.run)
    directory = run_dir.journal if run_dir.journal.is_dir() else run_dir.root
    try:
        history = read_history(directory, texts=one or args.json or bool(args.sqlite))
    except JournalError as error:
        raise RunDirError(f"{error}: is buffer.journal off, or is it no run?") from None
    tables = Tables(history, _config(run_dir))
    if args.sqlite:
        counts = write_sqlite(tables, history.problems, Path(args.sqlite))
        listed = ", ".join(f"{number:,} {name}" for name, number in counts.items())
        print(f"{args.sqlite}: {listed}")
    elif table == "summary":
        summary = summarize(history, tables)
        print(json.dumps(summary) if args.json else summary_text(summary))
    elif args.json:
        for row in tables.rows(table, wanted):
            print(json.dumps(row))
    elif one:
        print(rollout_text(tables, wanted))
    else:
        print(table_text(table, list(tables.rows(table, wanted)), args.limit))
    if table != "summary" or args.sqlite:
        for problem in first_problems(history.problems):
            print(f"warning: {problem}", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="async_r1 journal", description="Look into the journal of a run, live or over."
    )
    parser.add_argument("run", metavar="RUN", help="directory of a run, or of a journal")
    parser.add_argument(
        "table", nargs="?", choices=["summary", *TABLES], metavar="TABLE",
        help=f"summary (default), {', '.join(TABLES)}",
    )  # fmt: skip
    parser.add_argument("--group", type=int, metavar="N", help="rows of this group")
    parser.add_argument("--rollout", type=int, metavar="N", help="rows of this rollout")
    parser.add_argument("--prompt", default="", metavar="ID", help="rows of this prompt")
    parser.add_argument("--version", default="", metavar="A..B", help="rows of these versions")
    parser.add_argument(
        "--limit", type=int, default=_SHOWN, metavar="N",
        help=f"print the last N rows (default {_SHOWN}; 0: all)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object a line, all rows")
    parser.add_argument("--sqlite", metavar="FILE", help="write all tables to a new database")
    return parser


def _versions(text: str) -> tuple[int, int] | None:
    """`7` or `3..9`."""
    if not text:
        return None
    first, dots, last = text.partition("..")
    if not (first.isdecimal() and (last.isdecimal() if dots else True)):
        raise ConfigError(f"--version must be a version or a range such as 3..9, got {text!r}")
    return int(first), int(last or first)


def _config(run_dir: RunDir) -> dict[str, Any]:
    """Plain values of the run's configuration; empty if it is not there."""
    try:
        config: dict[str, Any] = read_json(run_dir.resolved)["config"]
    except (RunDirError, KeyError, TypeError):
        return {}
    return config
