"""Ctrl-C and its relatives as a count that a loop can look at."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Inside the context SIGINT, SIGTERM and SIGHUP are counted and do nothing else.

    Only in the main thread, as Python's signal handlers are.
    """

    def __init__(self) -> None:
        self.count = 0
        self._saved: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._saved = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._saved.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
