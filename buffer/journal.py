"""The journal: an append-only file of everything that was acknowledged.

A record is a head `[body length u32][crc32 of the body u32][crc32 of these 8 bytes u32]` and a
body `[frame count u32][frame lengths u32 …][frames]`, the frames being one `wire` message.
`append` returns only when the operating system has the bytes, so that an acknowledgement sent
after it survives `kill -9` of this process. A torn last record, as a crash leaves it, ends the
reading, and is cut off before anything is appended; a broken one before the end is an error.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from async_r1.errors import JournalError, WireError
from async_r1.wire import Message, decode, encode

_HEAD = struct.Struct("<II")  # body length, crc32 of the body
_CRC = struct.Struct("<I")


class Journal(Protocol):
    """Where acknowledged messages go."""

    def append(self, message: Message) -> int:
        """Write one record; returns the offset after it [bytes]."""

    def close(self) -> None: ...


class FileJournal:
    """A journal in one file, which it goes on with if it is there."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            JournalError: the file is damaged before its end.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._offset = _end_of_last_record(path)
        os.ftruncate(self._file, self._offset)

    def append(self, message: Message) -> int:
        """Write one record.

        Raises:
            JournalError: the disk did not take it; nothing of it may be acknowledged.
        """
        frames = encode(message)
        body = b"".join(
            [struct.pack(f"<{1 + len(frames)}I", len(frames), *(len(f) for f in frames)), *frames]
        )
        head = _HEAD.pack(len(body), zlib.crc32(body))
        record = head + _CRC.pack(zlib.crc32(head)) + body
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
        JournalError: a record that is not the last does not match its checksums.
    """
    with path.open("rb") as file:
        for offset, body in _bodies(file):
            yield _decode_body(path, offset, body)


def _end_of_last_record(path: Path) -> int:
    with path.open("rb") as file:
        return max((offset + len(body) for offset, body in _bodies(file)), default=0)


def _bodies(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each whole body."""
    size = _HEAD.size + _CRC.size
    while len(start := file.read(size)) == size:
        offset = file.tell()
        head, crc = start[: _HEAD.size], start[_HEAD.size :]
        damaged = JournalError(f"{file.name} is damaged at byte {offset - size}")
        if _CRC.unpack(crc)[0] != zlib.crc32(head):
            raise damaged
        length, body_crc = _HEAD.unpack(head)
        body = file.read(length)
        if len(body) < length:
            return
        if zlib.crc32(body) != body_crc:
            if not file.read(1):
                return
            raise damaged
        yield offset, body


def _decode_body(path: Path, offset: int, body: bytes) -> Message:
    (count,) = struct.unpack_from("<I", body)
    lengths = struct.unpack_from(f"<{count}I", body, 4)
    frames, start = [], 4 * (1 + count)
    for length in lengths:
        frames.append(body[start : start + length])
        start += length
    try:
        return decode(frames)
    except WireError as error:
        raise JournalError(f"{path} is damaged at byte {offset}: {error}") from None
