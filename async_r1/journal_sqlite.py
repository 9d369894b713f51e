"""The tables of a journal as an SQLite database, for questions that no option asks."""

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from async_r1.errors import RunDirError
from async_r1.journal_tables import TABLES, Tables, columns

_INDEXED = ("rollout_id", "group_id", "prompt_id", "batch_id")


def write_sqlite(tables: Tables, problems: Iterable[str], path: Path) -> dict[str, int]:
    """Write every table, and `problems`; returns the number of rows of each.

    Raises:
        RunDirError: the file is there already, or cannot be written.
    """
    if path.exists():
        raise RunDirError(f"{path} is there already; remove it, or name another file")
    try:
        database = sqlite3.connect(path, isolation_level=None)
        try:
            return _fill(database, tables, problems)
        finally:
            database.close()
    except sqlite3.Error as error:
        raise RunDirError(f"cannot write {path}: {error}") from None


def _fill(database: sqlite3.Connection, tables: Tables, problems: Iterable[str]) -> dict[str, int]:
    database.execute("PRAGMA journal_mode = OFF")
    database.execute("BEGIN")
    counts = {}
    for table in TABLES:
        database.execute(f'CREATE TABLE "{table}" ({_quoted(table)})')
        names = columns(table)
        rows = ([_plain(row[name]) for name in names] for row in tables.rows(table))
        counts[table] = _insert(database, table, len(names), rows)
        for name in set(names) & set(_INDEXED):
            database.execute(f'CREATE INDEX "{table}_{name}" ON "{table}" ("{name}")')
    database.execute("CREATE TABLE problems (problem TEXT)")
    counts["problems"] = _insert(database, "problems", 1, ([problem] for problem in problems))
    database.execute("COMMIT")
    return counts


def _insert(database: sqlite3.Connection, table: str, width: int, rows: Iterable[list[Any]]) -> int:
    marks = ", ".join("?" * width)
    return database.executemany(f'INSERT INTO "{table}" VALUES ({marks})', rows).rowcount


def _quoted(table: str) -> str:
    pairs = (column.split() for column in TABLES[table].split(", "))
    return ", ".join(f'"{name}" {kind}' for name, kind in pairs)


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value
