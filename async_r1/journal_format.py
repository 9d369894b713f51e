"""How a journal lies on disk, and how to read one; the buffer alone writes it.

    RUN/journal/00000000000000000000.log        records from byte 0 of the journal on
    RUN/journal/00000000000134217728.log        the log goes on here
    RUN/journal/00000000000134217728.snapshot   records that restore the state at that byte

A file is named after the offset of its first byte in the whole journal, so an offset means the
same for ever, whichever files are left. A record is a head
`[mark][body length u32][crc32 of the body u32][crc32 of these 12 bytes u32]` and a body
`[peer length u32][frame count u32][frame lengths u32 …][peer][frames]`, the frames being one
`wire` message. After damage, reading goes on at the next head that matches its own checksum.
"""

import mmap
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from async_r1.errors import JournalError, WireError
from async_r1.wire import Message, decode

MARK = b"\xa7JR2"
_HEAD = struct.Struct("<4sII")  # mark, body length, crc32 of the body
_CRC = struct.Struct("<I")
JOINED_BYTES = 16384  # a record below this is one part: to copy it costs less than to have many
HEAD_BYTES = _HEAD.size + _CRC.size

Frames = Sequence[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class Record:
    """One record; `offset` is of its first byte in the journal, `end` of the byte after it."""

    offset: int
    end: int
    peer: bytes  # who sent the message; empty: the buffer itself
    message: Message


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that are no record; `torn`: the end of the last file, as a crash leaves it."""

    path: Path
    position: int  # in the file
    num_bytes: int
    torn: bool

    def __str__(self) -> str:
        what = "a torn end" if self.torn else "damage"
        return f"{self.path}: {what} at byte {self.position}, {self.num_bytes} bytes"


OnDamage = Callable[[Damage], None]


def record_parts(frames: Frames, peer: bytes = b"") -> list[bytes | memoryview]:
    """The bytes of a record, in parts, so that large frames need not be copied."""
    sizes = [len(f) if type(f) is bytes else memoryview(f).nbytes for f in frames]
    table = struct.pack(f"<{2 + len(sizes)}I", len(peer), len(sizes), *sizes) + peer
    size = len(table) + sum(sizes)
    if size < JOINED_BYTES:
        body = b"".join((table, *frames))
        head = _HEAD.pack(MARK, size, zlib.crc32(body))
        return [head + _CRC.pack(zlib.crc32(head)) + body]
    crc = zlib.crc32(table)
    for frame in frames:
        crc = zlib.crc32(frame, crc)
    head = _HEAD.pack(MARK, size, crc)
    return [head + _CRC.pack(zlib.crc32(head)) + table, *frames]


def log_files(directory: Path) -> list[Path]:
    """The log's files in order."""
    return sorted(directory.glob("*.log"))


def snapshot_files(directory: Path) -> list[Path]:
    """Complete snapshots, oldest first."""
    return sorted(directory.glob("*.snapshot"))


def base_of(path: Path) -> int:
    """The offset in the journal of a file's first byte, or of the state that a snapshot has.

    Raises:
        JournalError: it is no file of a journal.
    """
    if not path.stem.isdecimal():
        raise JournalError(f"{path} is no file of a journal: its name is no offset")
    return int(path.stem)


def read_records(path: Path, on_damage: OnDamage | None = None) -> Iterator[Record]:
    """Records in order: of a journal's directory, from its newest snapshot on; or of one file.

    Args:
        on_damage: told of bytes that are no record, among which reading goes on at the next one;
            None: such bytes are an error unless they are the torn end of the last file.

    Raises:
        JournalError: there is damage and nobody to tell it to, or there is no such journal.
    """
    if path.is_dir():
        snapshots = snapshot_files(path)
        start = base_of(snapshots[-1]) if snapshots else 0
        files = [*snapshots[-1:], *(log for log in log_files(path) if base_of(log) >= start)]
    elif path.is_file():
        files = [path]
    else:
        raise JournalError(f"there is no journal at {path}")
    for file in files:
        yield from read_file(file, on_damage, last=file == files[-1])


def read_file(
    path: Path, on_damage: OnDamage | None = None, *, last: bool = True
) -> Iterator[Record]:
    """Records of one file; `last`: whether its end may be torn."""
    base, size = base_of(path), path.stat().st_size
    if not size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position = 0
        while position < size:
            found = _record_at(data, position, base)
            if found is not None:
                yield found
                position = found.end - base
                continue
            after = _next_record(data, position + 1, base)
            torn = last and after is None
            damage = Damage(path, position, (size if after is None else after) - position, torn)
            if on_damage is not None:
                on_damage(damage)
            elif not torn:
                raise JournalError(str(damage))
            position += damage.num_bytes


def _next_record(data: mmap.mmap, start: int, base: int) -> int | None:
    """Position of the next whole record."""
    position = data.find(MARK, start)
    while position >= 0:
        if _record_at(data, position, base) is not None:
            return position
        position = data.find(MARK, position + 1)
    return None


def _record_at(data: mmap.mmap, position: int, base: int) -> Record | None:
    """The record that starts there; None if no whole one does."""
    head = data[position : position + HEAD_BYTES]
    if len(head) < HEAD_BYTES or _CRC.unpack_from(head, _HEAD.size)[0] != zlib.crc32(
        head[: _HEAD.size]
    ):
        return None
    mark, length, crc = _HEAD.unpack_from(head)
    start = position + HEAD_BYTES
    body = data[start : start + length]
    if mark != MARK or len(body) < length or zlib.crc32(body) != crc:
        return None
    peer_size, count = struct.unpack_from("<II", body)
    sizes = struct.unpack_from(f"<{count}I", body, 8)
    at = 8 + 4 * count
    peer, at = body[at : at + peer_size], at + peer_size
    frames = []
    for size in sizes:
        frames.append(memoryview(body)[at : at + size])
        at += size
    try:
        message = decode(frames)
    except WireError as error:
        raise JournalError(f"byte {position} of the journal: {error}") from None
    return Record(base + position, base + start + length, peer, message)
