"""The journal: what was flushed comes back, a torn tail does not, damage costs what it covers."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from async_r1.errors import JournalError
from async_r1.journal_format import Damage, read_records
from async_r1.wire import Message, encode
from buffer import journal as journal_module
from buffer.journal import FileJournal, Fsync, NullJournal, read_journal

MESSAGES = [
    Message("draw", {"batch_id": 1, "group_ids": [1, 2]}),
    Message("segment", {"text": "ä"}, {"token_ids": np.arange(5, dtype=np.int32)}),
    Message("empty", {}, {"a": np.zeros(0, np.float32), "b": np.ones(3, np.uint8)}),
]


def written(path: Path, messages: list[Message]) -> list[int]:
    """Write a journal; the offsets after its records."""
    journal = FileJournal(path)
    offsets = []
    for message in messages:
        journal.append(message, peer=b"peer/1")
        offsets.append(journal.flush())
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
    return tmp_path / "journal"


def log_of(path: Path) -> Path:
    return path / f"{0:020d}.log"


def test_round_trip_over_several_openings(path: Path) -> None:
    first = written(path, MESSAGES[:2])
    assert first[-1] == log_of(path).stat().st_size
    second = written(path, MESSAGES[2:])
    assert second == [log_of(path).stat().st_size] and second[0] > first[-1]
    assert contents(path) == EXPECTED
    records = list(read_records(path))
    assert [record.end for record in records] == [*first, *second]
    assert [record.offset for record in records] == [0, *first]
    assert {record.peer for record in records} == {b"peer/1"}


def test_nothing_is_written_before_the_flush(path: Path) -> None:
    journal = FileJournal(path)
    for message in MESSAGES:
        journal.append(message)
    assert log_of(path).stat().st_size == 0
    assert journal.flush() == journal.flush() == log_of(path).stat().st_size
    journal.append(MESSAGES[0])
    journal.close()
    assert contents(path) == EXPECTED


def test_frames_are_stored_as_they_came(path: Path) -> None:
    """One that would encode differently: what is stored is what was received."""
    frames = [bytes(frame) for frame in encode(MESSAGES[1])]
    journal = FileJournal(path)
    journal.append(Message("segment", {"other": 1}), frames=[memoryview(f) for f in frames])
    journal.flush()
    journal.close()
    assert contents(path) == [EXPECTED[1]]


def test_two_writers_are_refused(path: Path) -> None:
    journal = FileJournal(path)
    with pytest.raises(JournalError, match="another process writes the journal"):
        FileJournal(path)
    journal.close()
    FileJournal(path).close()


@pytest.mark.parametrize(("fsync", "expected"), [("always", 3), ("interval", 1), ("off", 0)])
def test_fsync_follows_its_policy(
    path: Path, monkeypatch: pytest.MonkeyPatch, fsync: Fsync, expected: int
) -> None:
    clock, synced = [100.0], []
    monkeypatch.setattr(journal_module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(journal_module.os, "fsync", synced.append)
    journal = FileJournal(path, fsync=fsync, fsync_interval_s=5.0)
    for message in MESSAGES:
        journal.append(message)
        journal.flush()
        journal.flush()  # nothing new: nothing to force
        clock[0] += 2.6
    assert len(synced) == expected
    if fsync == "interval":
        journal.append(MESSAGES[0])
        journal.flush()
        assert len(synced) == 1
        clock[0] += 5
        journal.flush()  # with nothing more to write: the last ones are forced, too
        assert len(synced) == 2
    journal.close()


def test_torn_at_every_byte(path: Path) -> None:
    """The whole records before the tear are read, and go on after the next opening."""
    offsets = written(path, MESSAGES)
    data = log_of(path).read_bytes()
    for size in range(len(data) + 1):
        log_of(path).write_bytes(data[:size])
        whole = sum(offset <= size for offset in offsets)
        assert contents(path) == EXPECTED[:whole]
        damage: list[Damage] = []
        assert len(list(read_records(path, damage.append))) == whole
        torn = size - ([0, *offsets][whole])
        assert [(d.num_bytes, d.torn) for d in damage] == ([(torn, True)] if torn else [])
        written(path, MESSAGES[:1])
        assert contents(path) == [*EXPECTED[:whole], EXPECTED[0]], f"torn at byte {size}"


def test_a_flipped_byte_costs_its_record_at_every_byte(path: Path) -> None:
    offsets = written(path, MESSAGES)
    data = log_of(path).read_bytes()
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x40
        log_of(path).write_bytes(damaged)
        hit = sum(offset <= position for offset in offsets)
        last = hit == len(offsets) - 1
        damage: list[Damage] = []
        read = [plain(record.message) for record in read_records(path, damage.append)]
        assert read == [*EXPECTED[:hit], *EXPECTED[hit + 1 :]]
        start = [0, *offsets][hit]
        assert [(d.position, d.num_bytes) for d in damage] == [(start, offsets[hit] - start)]
        assert [d.torn for d in damage] == [last]
        if not last:
            with pytest.raises(JournalError, match=f"damage at byte {start}"):
                contents(path)
            FileJournal(path).close()
            assert log_of(path).read_bytes() == damaged  # nothing was cut off


def test_zeros_after_the_end_are_a_torn_end(path: Path) -> None:
    """As a file system leaves them that had grown the file, but not written it."""
    written(path, MESSAGES)
    log_of(path).write_bytes(log_of(path).read_bytes() + bytes(64))
    assert contents(path) == EXPECTED
    written(path, MESSAGES[:1])
    assert contents(path) == [*EXPECTED, EXPECTED[0]]


def test_a_mark_inside_of_a_record_is_no_record(path: Path) -> None:
    inner = FileJournal(path / "inner")
    inner.append(MESSAGES[0])
    inner.flush()
    inner.close()
    whole = log_of(path / "inner").read_bytes()
    tokens = np.frombuffer(whole[: len(whole) // 4 * 4], np.int32)
    tricky = Message("segment", {}, {"token_ids": tokens})
    written(path, [tricky, MESSAGES[0]])
    assert contents(path) == [plain(tricky), EXPECTED[0]]


def test_a_snapshot_takes_the_place_of_what_was_before_it(path: Path) -> None:
    journal = FileJournal(path)
    for message in MESSAGES:
        journal.append(message)
    before = journal.flush()
    journal.compact(MESSAGES[:1])
    assert contents(path) == EXPECTED[:1] and journal.log_bytes == 0
    journal.append(MESSAGES[2])
    after = journal.flush()
    assert contents(path) == [EXPECTED[0], EXPECTED[2]]
    assert sorted(file.name for file in path.iterdir()) == [
        f"{before:020d}.log", f"{before:020d}.snapshot", "lock",
    ]  # fmt: skip
    sizes = [file.stat().st_size for file in path.iterdir()]
    assert journal.metrics()["journal/bytes"] == sum(sizes)
    journal.close()
    journal = FileJournal(path)
    journal.append(MESSAGES[1])
    assert journal.flush() > after  # offsets go on
    journal.close()
    assert contents(path) == [EXPECTED[0], EXPECTED[2], EXPECTED[1]]


def test_an_unfinished_snapshot_changes_nothing(path: Path) -> None:
    offset = written(path, MESSAGES)[-1]
    (path / f"{offset:020d}.partial").write_bytes(b"half")
    (path / f"{offset:020d}.log").touch()  # as a kill leaves it that came before the renaming
    assert contents(path) == EXPECTED
    assert written(path, MESSAGES[:1])[0] > offset
    assert contents(path) == [*EXPECTED, EXPECTED[0]]
    assert not list(path.glob("*.partial"))


FULL = """
import sys
from pathlib import Path
import numpy as np
from async_r1.errors import JournalError
from async_r1.wire import Message
from buffer.journal import FileJournal, read_journal
path = Path(sys.argv[1])
journal, flushed = FileJournal(path / "journal"), 0
def write(count):
    global flushed
    for i in range(count):
        journal.append(Message("segment", {"i": flushed}, {"token_ids": np.zeros(9000, np.int32)}))
        journal.flush()
        flushed += 1
try:
    write(100)
except JournalError as error:
    assert "bytes are free there" in str(error) and str(path) in str(error), error
    assert "No space left on device" in str(error), error
else:
    raise AssertionError("the disk never filled")
assert 1 < flushed < 100, flushed
journal.close()
assert [m.values["i"] for m in read_journal(path / "journal")] == list(range(flushed))
(path / "ballast").unlink()
journal = FileJournal(path / "journal")
write(5)
journal.close()
assert [m.values["i"] for m in read_journal(path / "journal")] == list(range(flushed))
"""


def test_a_full_disk_takes_whole_records_or_none(tmp_path: Path) -> None:
    """On a file system of 1 MiB, of which a fifth is freed in the end."""
    mount = (
        f"mount -t tmpfs -o size=1m none {tmp_path} && head -c 200k /dev/zero > {tmp_path}/ballast"
    )
    script = f'{mount} && exec "$@"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    probe = (
        subprocess.run([*command, "true"], capture_output=True) if shutil.which("unshare") else None
    )
    if probe is None or probe.returncode:
        pytest.skip("no user namespaces: there is no small file system to fill")
    run = subprocess.run(
        [*command, sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def test_null_journal_keeps_nothing() -> None:
    journal = NullJournal()
    journal.append(MESSAGES[0])
    assert journal.flush() == 0
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
    if i % 3 == 0:
        journal.flush()
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
        assert len(values) >= 3 * (wanted + more) - 2
        assert values == list(range(len(values)))
        os.unlink(log_of(path))
