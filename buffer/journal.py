"""The journal: an append-only file of everything that was acknowledged.

A record is `[length u32][crc32 u32][frame count u32][frame lengths u32 …][frames]`, the frames
being one `wire` message. `append` returns only when the operating system has the bytes, so that
an acknowledgement sent after it survives `kill -9` of this process. A torn last record, as a
crash leaves it, ends the reading; a broken one before the end is an error.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from async_r1.errors import JournalError, WireError
from async_r1.wire import Message, decode, encode

_HEAD = struct.Struct("<II")


class Journal(Protocol):
    """Where acknowledged messages go."""

    def append(self, message: Message) -> int:
        """Write one record; returns the offset after it [bytes]."""

    def close(self) -> None: ...


class FileJournal:
    """A journal in one file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._offset = os.fstat(self._file).st_size

    def append(self, message: Message) -> int:
        """Write one record.

        Raises:
            JournalError: the disk did not take it; nothing of it may be acknowledged.
        """
        frames = encode(message)
        body = b"".join(
            [struct.pack(f"<{1 + len(frames)}I", len(frames), *(len(f) for f in frames)), *frames]
        )
        record = _HEAD.pack(len(body), zlib.crc32(body)) + body
        try:
            written = os.write(self._file, record)
        except OSError as error:
            raise JournalError(f"cannot append to {self._path}: {error}") from None
        if written != len(record):
            raise JournalError(f"{self._path} took {written} of {len(record)} bytes: disk full?")
        self._offset += len(record)
        return self._offset

    def close(self) -> None:
        os.close(self._file)


class NullJournal:
    """Keeps nothing: for runs that need not survive a crash."""

    def append(self, message: Message) -> int:
        return 0

    def close(self) -> None:
        pass


def read_journal(path: Path) -> Iterator[Message]:
    """Records of a journal in order, up to a torn last one.

    Raises:
        JournalError: a record that is not the last does not match its checksum.
    """
    data = path.read_bytes()
    position = 0
    while position + _HEAD.size <= len(data):
        length, crc = _HEAD.unpack_from(data, position)
        start = position + _HEAD.size
        body = data[start : start + length]
        if len(body) < length:
            return
        if zlib.crc32(body) != crc:
            if start + length >= len(data):
                return
            raise JournalError(f"{path} is damaged at byte {position}")
        yield _decode_body(path, position, body)
        position = start + length


def _decode_body(path: Path, position: int, body: bytes) -> Message:
    (count,) = struct.unpack_from("<I", body)
    lengths = struct.unpack_from(f"<{count}I", body, 4)
    frames, start = [], 4 * (1 + count)
    for length in lengths:
        frames.append(body[start : start + length])
        start += length
    try:
        return decode(frames)
    except WireError as error:
        raise JournalError(f"{path} is damaged at byte {position}: {error}") from None
