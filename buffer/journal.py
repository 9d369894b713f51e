"""The journal: an append-only log of everything that changed the buffer's state.

`append` only queues; `flush` writes all that is queued with one write, and nothing that follows
from it may be sent before: an acknowledgement that left survives `kill -9` of this process, and,
with `fsync=always`, the machine's power. What a file looks like is said in
`async_r1.journal_format`; a torn end, as a crash leaves it, is cut off before anything is added.
"""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, Protocol

from async_r1.errors import JournalError
from async_r1.failpoints import armed, failpoint
from async_r1.journal_format import (
    Damage,
    Frames,
    base_of,
    log_files,
    read_file,
    read_records,
    record_parts,
    snapshot_files,
)
from async_r1.wire import Message, encode

_IOV_MAX = 1024  # parts of one write, as Linux allows

Fsync = Literal["always", "interval", "off"]


class Journal(Protocol):
    """Where what changes the buffer's state is written before anybody hears of it."""

    def append(self, message: Message, *, frames: Frames | None = None, peer: bytes = b"") -> None:
        """Queue one record: of `frames`, the message as it was received, if they are given."""

    def flush(self) -> int:
        """Write everything that is queued; returns the offset after it [bytes].

        Raises:
            JournalError: the disk did not take it; nothing of it may be acknowledged.
        """

    def metrics(self) -> dict[str, float]: ...

    def close(self) -> None: ...


class FileJournal:
    """A journal in a directory, with which it goes on if it is there."""

    def __init__(
        self, directory: Path, *, fsync: Fsync = "off", fsync_interval_s: float = 1.0
    ) -> None:
        """
        Raises:
            JournalError: another process writes this journal, or the disk refuses it.
        """
        self._directory, self._fsync, self._interval_s = directory, fsync, fsync_interval_s
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(f"another process writes the journal {directory}") from None
        except OSError as error:
            raise JournalError(f"cannot open the journal {directory}: {error}") from error
        self.damage: list[Damage] = []  # the torn end that was cut off, if there was one
        self._clean()
        logs = log_files(directory)
        self._open(logs[-1] if logs else directory / f"{0:020d}.log")
        self.num_compactions = 0
        self._queue: list[bytes | memoryview] = []
        self._queued_records = 0
        self._synced_at = time.monotonic()
        self._unsynced = False
        self.num_records = 0  # written by this process
        self.num_damaged = 0  # places that a restart found damaged
        self.flush_s = 0.0  # spent in `flush`

    def append(self, message: Message, *, frames: Frames | None = None, peer: bytes = b"") -> None:
        self._queue += record_parts(encode(message) if frames is None else frames, peer)
        self._queued_records += 1

    def flush(self) -> int:
        started = time.monotonic()
        if self._queue:
            self._offset += self._write(self._queue)
            self.num_records += self._queued_records
            self._queue, self._queued_records = [], 0
            self._unsynced = True
        if self._unsynced and self._is_due(started):
            os.fsync(self._file)
            self._synced_at, self._unsynced = time.monotonic(), False
        self.flush_s += time.monotonic() - started
        return self._base + self._offset

    def close(self) -> None:
        """What is queued is not written: nobody may hear of it."""
        if self._unsynced and self._fsync != "off":
            os.fsync(self._file)
        os.close(self._file)
        os.close(self._lock)

    def _open(self, path: Path) -> None:
        self._path, self._base = path, base_of(path)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        found: list[Damage] = []
        for _ in read_file(path, found.append):
            pass
        self.damage = [damage for damage in found if damage.torn]
        self._offset = self.damage[0].position if self.damage else path.stat().st_size
        os.ftruncate(self._file, self._offset)

    @property
    def log_bytes(self) -> int:
        """Of the records since the last snapshot."""
        return self._offset

    def compact(self, snapshot: Iterable[Message]) -> None:
        """Put a snapshot of the state in place of everything written so far.

        It is written beside the log and takes its place at once, by its name; only then are the
        files before it deleted. A kill at any moment leaves one or the other.

        Raises:
            JournalError: the disk did not take it; what there was is still there.
        """
        offset = self.flush()
        path = self._directory / f"{offset:020d}.snapshot"
        temporary = path.with_suffix(".partial")
        try:
            with temporary.open("wb") as file:
                for message in snapshot:
                    file.writelines(record_parts(encode(message)))
                failpoint("compact_write")
                file.flush()
                os.fsync(file.fileno())
            os.fsync(self._file)
            log = self._directory / f"{offset:020d}.log"
            opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            failpoint("compact_log")
            temporary.replace(path)
            self._sync_directory()
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise self._cannot("write", temporary, error) from error
        failpoint("compact_switch")
        os.close(self._file)
        self._file, self._path, self._base, self._offset = opened, log, offset, 0
        self._clean()
        self.num_compactions += 1

    def metrics(self) -> dict[str, float]:
        files = [*log_files(self._directory), *snapshot_files(self._directory)]
        return {
            "journal/bytes": sum(path.stat().st_size for path in files),
            "journal/records": self.num_records,
            "journal/flush_s": self.flush_s,
            "journal/compactions": self.num_compactions,
            "journal/damaged_records": self.num_damaged,
        }

    def _clean(self) -> None:
        """Delete what a snapshot has replaced, and one that was never finished."""
        for path in self._directory.glob("*.partial"):
            path.unlink()
        snapshots = snapshot_files(self._directory)
        if not snapshots:
            return
        start = base_of(snapshots[-1])
        for path in (*log_files(self._directory), *snapshots):
            if base_of(path) < start:
                path.unlink()
                failpoint("compact_clean")

    def _sync_directory(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    def _write(self, parts: list[bytes | memoryview]) -> int:
        """Write all of them; returns how many bytes that were."""
        total = 0
        if armed("write"):
            data = b"".join(parts)
            os.write(self._file, data[: len(data) // 2])
        failpoint("write")
        try:
            for start in range(0, len(parts), _IOV_MAX):
                some = parts[start : start + _IOV_MAX]
                size = sum(map(len, some))
                written = os.writev(self._file, some)
                if written < size:  # a second write says why the first one took only a part
                    rest = memoryview(b"".join(some))[written:]
                    while rest:
                        rest = rest[os.write(self._file, rest) :]
                total += size
            return total
        except OSError as error:
            with contextlib.suppress(OSError):  # else the next opening cuts it off
                os.ftruncate(self._file, self._offset)
            raise self._cannot("append to", self._path, error) from error

    def _cannot(self, do: str, path: Path, error: OSError) -> JournalError:
        free = shutil.disk_usage(self._directory).free
        return JournalError(f"cannot {do} {path}: {error.strerror}; {free} bytes are free there")

    def _is_due(self, now: float) -> bool:
        if self._fsync == "interval":
            return now - self._synced_at >= self._interval_s
        return self._fsync == "always"


class NullJournal:
    """Keeps nothing: for runs that need not survive a crash."""

    def append(self, message: Message, *, frames: Frames | None = None, peer: bytes = b"") -> None:
        pass

    def flush(self) -> int:
        return 0

    def metrics(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        pass


def read_journal(directory: Path) -> Iterator[Message]:
    """Messages of a journal in order, up to a torn end.

    Raises:
        JournalError: there is damage before the end, or no such journal.
    """
    return (record.message for record in read_records(directory))
