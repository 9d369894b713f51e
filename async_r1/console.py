"""What `launch` shows while a run goes on: a live panel on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Callable
from typing import Protocol, TextIO

from async_r1.config import Config
from async_r1.plain import PlainLines
from async_r1.run_dir import RunDir
from async_r1.view import RunView


class Display(Protocol):
    """One form of output."""

    def update(self) -> None:
        """Show what the view says now."""

    def close(self) -> None:
        """Show the last state and leave the terminal as it was found."""


class Console:
    """The progress of a run, read from its files.

    `logging.console` chooses: `panel`, `plain`, `quiet`, or `auto` for the panel on a terminal
    and plain lines elsewhere. It is never both.
    """

    def __init__(
        self,
        config: Config,
        run_dir: RunDir,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            stream: where to write; standard output if None.
            clock: seconds since the epoch, as time.time.
        """
        stream = sys.stdout if stream is None else stream
        choice = config.logging.console
        if choice == "auto":
            can_redraw = stream.isatty() and os.environ.get("TERM") != "dumb"
            choice = "panel" if can_redraw else "plain"
        self._view = RunView(run_dir)
        self._display: Display | None = None
        if choice == "panel":
            from async_r1.panel import LivePanel

            self._display = LivePanel(self._view, stream, clock)
        elif choice == "plain":
            self._display = PlainLines(self._view, stream, clock)

    def update(self) -> None:
        """Read what is new and show it; cheap enough to call five times a second."""
        if self._display:
            self._view.refresh()
            self._display.update()

    def close(self) -> None:
        """Show the last state; later updates do nothing."""
        if self._display:
            self.update()
            self._display.close()
            self._display = None
