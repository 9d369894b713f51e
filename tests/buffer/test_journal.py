"""The journal: what was acknowledged comes back, a torn tail does not, damage is an error."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from async_r1.errors import JournalError
from async_r1.wire import Message
from buffer.journal import FileJournal, NullJournal, read_journal

MESSAGES = [
    Message("draw", {"batch_id": 1, "group_ids": [1, 2]}),
    Message("segment", {"text": "ä"}, {"token_ids": np.arange(5, dtype=np.int32)}),
    Message("empty", {}, {"a": np.zeros(0, np.float32), "b": np.ones(3, np.uint8)}),
]


def written(path: Path, messages: list[Message]) -> list[int]:
    """Write a journal; the offsets after its records."""
    journal = FileJournal(path)
    offsets = [journal.append(message) for message in messages]
    journal.close()
    return offsets


def plain(message: Message) -> tuple[object, ...]:
    arrays = {n: (str(a.dtype), a.tolist()) for n, a in message.arrays.items()}
    return message.kind, dict(message.values), arrays


def contents(path: Path) -> list[tuple[object, ...]]:
    return [plain(message) for message in read_journal(path)]


EXPECTED = [plain(message) for message in MESSAGES]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "segments"


def test_round_trip_over_several_openings(path: Path) -> None:
    first = written(path, MESSAGES[:2])
    assert first[-1] == path.stat().st_size
    second = written(path, MESSAGES[2:])
    assert second == [path.stat().st_size] and second[0] > first[-1]
    assert contents(path) == EXPECTED


def test_torn_at_every_byte(path: Path) -> None:
    """The whole records before the tear are read, and go on after the next opening."""
    offsets = written(path, MESSAGES)
    data = path.read_bytes()
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        whole = sum(offset <= size for offset in offsets)
        assert contents(path) == EXPECTED[:whole]
        written(path, MESSAGES[:1])
        assert contents(path) == [*EXPECTED[:whole], EXPECTED[0]], f"torn at byte {size}"


def test_damage_before_the_end_is_an_error_at_every_byte(path: Path) -> None:
    offsets = written(path, MESSAGES)
    data = path.read_bytes()
    for position in range(offsets[-2]):
        damaged = bytearray(data)
        damaged[position] ^= 0x40
        path.write_bytes(damaged)
        with pytest.raises(JournalError, match=r"damaged at byte \d+"):
            contents(path)
        with pytest.raises(JournalError):
            FileJournal(path)
        assert path.read_bytes() == damaged  # nothing was cut off


def test_damaged_tail_never_reads_as_something_else(path: Path) -> None:
    offsets = written(path, MESSAGES)
    data = path.read_bytes()
    for position in range(offsets[-2], len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x40
        path.write_bytes(damaged)
        try:
            assert contents(path) == EXPECTED[:-1]
        except JournalError:
            pass


def test_zeros_after_the_end_are_damage(path: Path) -> None:
    written(path, MESSAGES)
    path.write_bytes(path.read_bytes() + bytes(64))
    with pytest.raises(JournalError):
        contents(path)


def test_full_disk_is_an_error() -> None:
    journal = FileJournal.__new__(FileJournal)
    journal._path, journal._offset = Path("/dev/full"), 0
    journal._file = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(JournalError, match="cannot append to /dev/full"):
        journal.append(MESSAGES[0])
    journal.close()


def test_null_journal_keeps_nothing() -> None:
    journal = NullJournal()
    assert journal.append(MESSAGES[0]) == 0
    journal.close()


WRITER = """
import sys
from pathlib import Path
import numpy as np
from async_r1.wire import Message
from buffer.journal import FileJournal
journal = FileJournal(Path(sys.argv[1]))
for i in range(10**9):
    journal.append(Message("segment", {"i": i}, {"token_ids": np.full(i % 300, i, np.int32)}))
    print(i, flush=True)
"""


def test_a_killed_process_loses_nothing_that_it_had_acknowledged(path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(path)]
    for wanted in (200, 350, 500):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(wanted):
                assert process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            more = process.stdout.read().count("\n")  # a torn last line acknowledges nothing
        values = [message.values["i"] for message in read_journal(path)]
        assert len(values) >= wanted + more
        assert values == list(range(len(values)))
        path.unlink()
