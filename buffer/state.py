"""What the buffer's two sides share: its parts, its version, and what it is about to send."""

from collections.abc import Callable
from typing import Any

from async_r1.config import Config
from async_r1.tasks.protocol import Task
from async_r1.wire import Message
from buffer.curriculum import make_curriculum
from buffer.drawing import Drawing
from buffer.evals import EvalSchedule
from buffer.granting import Granting
from buffer.journal import Journal
from buffer.lease_book import LeaseBook
from buffer.selection import Selection
from buffer.stats import BufferStats


class BufferState:
    """The parts by name, and the numbers that all of them go by."""

    def __init__(
        self,
        config: Config,
        task: Task,
        journal: Journal,
        write_row: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self.config = config
        self.version = 0
        self.step = 0
        self.now = 0.0  # seconds, the caller's clock
        self.may_draw = False  # something happened on which a draw may have waited
        self.finishing = False  # the learner is done: nothing more is opened
        self.stats = BufferStats(
            Selection(
                window=config.buffer.selection_window,
                ks_warn=config.buffer.selection_ks_warn,
                keep_zero_variance=config.buffer.keep_zero_variance,
            )
        )
        self.book = LeaseBook(config.buffer.group_size, config.curriculum.screen)
        self.drawing = Drawing(config, self.stats)
        self.prompts = task.prompts("train")
        self.curriculum = make_curriculum(config, self.prompts)
        self.evals = EvalSchedule(config.eval.every, list(task.prompts("eval")))
        self.evals.published(0)
        self.granting = Granting(config, self.book, self.stats)
        self.journal = journal
        self.write_row = write_row
        self.learners: set[bytes] = set()
        self.outbox: list[tuple[bytes, Message]] = []

    def send(self, peer: bytes, kind: str, **values: Any) -> None:
        self.outbox.append((peer, Message(kind, values)))

    def take_outbox(self) -> list[tuple[bytes, Message]]:
        outbox, self.outbox = self.outbox, []
        return outbox

    @property
    def eval_first(self) -> bool:
        """In sync mode nothing trains while a version is measured."""
        return self.config.mode == "sync" and not self.evals.idle
