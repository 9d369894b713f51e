"""A disk without space, told from other errors."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from async_r1.errors import DiskFullError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_TEXT = "No space left on device"  # libraries in other languages pass on only the text


def disk_full_text(error: BaseException, directory: Path) -> str:
    """One line that names the directory if a full disk caused the error; else empty.

    Args:
        directory: that was being written, for errors that name no file.
    """
    cause: BaseException | None = error
    while cause is not None:
        if (isinstance(cause, OSError) and cause.errno in _NO_SPACE) or _TEXT in str(cause):
            place = getattr(cause, "filename", None) or directory
            return f"no space left on the disk of {place}"
        cause = cause.__cause__ or cause.__context__
    return ""


@contextlib.contextmanager
def names_full_disk(directory: Path) -> Iterator[None]:
    """
    Raises:
        DiskFullError: in place of whatever a full disk caused.
    """
    try:
        yield
    except Exception as error:
        if text := disk_full_text(error, directory):
            raise DiskFullError(text) from error
        raise
