"""A full disk is recognised, whoever met it: /dev/full refuses writes as a full disk does."""

import os
from pathlib import Path

import pytest

from async_r1 import cli
from async_r1.disk import disk_full_text
from async_r1.errors import JournalError
from async_r1.metrics import MetricsWriter
from async_r1.wire import Message
from buffer.journal import FileJournal

FULL = Path("/dev/full")
HERE = Path("runs/x")


def test_a_metrics_row() -> None:
    writer = MetricsWriter(FULL, 0.0)
    with pytest.raises(OSError) as error:
        writer.write({"step": 1})
    assert disk_full_text(error.value, HERE) == "no space left on the disk of runs/x"


def test_a_journal_record(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "segments")
    full = os.open(FULL, os.O_WRONLY)
    os.dup2(full, journal._file)
    os.close(full)
    with pytest.raises(JournalError) as error:
        journal.append(Message("score", {"rollout_id": 1}))
        journal.flush()
    assert disk_full_text(error.value, HERE) == "no space left on the disk of runs/x"
    journal.close()


def test_a_checkpoint() -> None:
    """The library in Rust that writes checkpoints passes on the text alone."""
    from safetensors import SafetensorError

    error = SafetensorError("Error while serializing: I/O error: No space left on device (os err)")
    assert disk_full_text(error, HERE) == "no space left on the disk of runs/x"
    outer = RuntimeError("checkpoint failed")
    outer.__cause__ = error
    assert disk_full_text(outer, HERE) == "no space left on the disk of runs/x"


def test_other_errors_are_not_taken_for_it() -> None:
    assert disk_full_text(FileNotFoundError(2, "No such file"), HERE) == ""
    assert disk_full_text(ValueError("x"), HERE) == ""


def test_the_command_line_says_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill(arguments: list[str]) -> int:
        with FULL.open("w") as file:
            file.write("x" * 100_000)
        return 0

    monkeypatch.setitem(cli.COMMANDS, "fill", cli.Command("async_r1.fill:main", ""))
    monkeypatch.setattr(cli.Command, "load", lambda self: fill)
    assert cli.main(["fill"]) == 1
    assert capsys.readouterr().err.startswith("error: no space left on the disk of ")
