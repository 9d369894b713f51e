"""What the buffer says in its log of messages that it refuses: a few in full, then sums."""

import logging
from collections import Counter
from collections.abc import Callable

log = logging.getLogger("buffer")

BURST = 5  # lines in full per interval
INTERVAL_S = 10.0


class RefusalLog:
    """At most `BURST` lines and one summary per interval, whatever peers send."""

    def __init__(self, write: Callable[[str], None] = log.warning) -> None:
        self._write = write
        self._since = 0.0
        self._in_full = 0
        self._held: Counter[str] = Counter()  # by reason
        self._last = ""

    def refused(self, peer: str, reason: str, text: str, now: float) -> None:
        """A message was refused; `now` in seconds."""
        self.tick(now)
        line = _printable(f"{peer}: {text}")
        if self._in_full < BURST:
            self._in_full += 1
            self._write(f"rejected from {line}")
        else:
            self._held[reason] += 1
            self._last = line

    def tick(self, now: float) -> None:
        """Called now and then: says what was held back, once its interval is over."""
        if now - self._since < INTERVAL_S:
            return
        if self._held:
            reasons = ", ".join(f"{name} {count}" for name, count in self._held.most_common())
            self._write(
                f"rejected {self._held.total()} more messages in {now - self._since:.0f} s "
                f"({reasons}); the last from {self._last}"
            )
        self._held.clear()
        self._since, self._in_full = now, 0


def _printable(text: str) -> str:
    """One line, whatever a peer calls itself."""
    return "".join(c if c.isprintable() else "?" for c in text)
