"""What the buffer's two sides share: its parts, its version, and what it is about to send."""

from collections.abc import Callable
from typing import Any

from async_r1.channels import peer_name
from async_r1.config import Config
from async_r1.errors import ProtocolError, Refusal
from async_r1.tasks.protocol import Task
from async_r1.wire import Message
from buffer.curriculum import make_curriculum
from buffer.drawing import Drawing
from buffer.evals import EvalSchedule
from buffer.granting import Granting
from buffer.journal import Journal
from buffer.lease_book import LeaseBook
from buffer.refusals import RefusalLog
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
        self.awaited: dict[bytes, float] = {}  # holders from before a restart, and when it was
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
        self.vocab_size = 2**31  # token ids are below; until it is known, any int32
        self._knows_vocab_size = False
        self.refusals = RefusalLog()
        self.outbox: list[tuple[bytes, Message]] = []
        self._acks: dict[bytes, list[tuple[int, int, int]]] = {}  # in the outbox already

    def log(self, kind: str, *, peer: bytes = b"", **values: Any) -> None:
        """Journal an event of the buffer's own."""
        self.journal.append(Message(kind, values), peer=peer)

    def send(self, peer: bytes, kind: str, **values: Any) -> None:
        self.outbox.append((peer, Message(kind, values)))

    def set_vocab_size(self, vocab_size: int | None) -> None:
        """
        Raises:
            ProtocolError: another is known already.
        """
        if vocab_size is None:
            return
        if self._knows_vocab_size and vocab_size != self.vocab_size:
            raise ProtocolError(
                f"hello.vocab_size must be {self.vocab_size}, as of the model here, got "
                f"{vocab_size}: actor and buffer have different models"
            )
        self.vocab_size, self._knows_vocab_size = vocab_size, True

    def refused(self, peer: bytes, reason: Refusal, text: str) -> None:
        """Count and log a message that was refused."""
        self.stats.counts["wire/rejected"] += 1
        self.stats.counts[f"wire/rejected/{reason}"] += 1
        self.refusals.refused(peer_name(peer), reason, text, self.now)

    def acknowledge(self, peer: bytes, rollout_id: int, lease_epoch: int, offset: int) -> None:
        """All of one peer's acknowledgements until the outbox is taken are one message."""
        segments = self._acks.get(peer)
        if segments is None:
            segments = self._acks[peer] = []
            self.outbox.append((peer, Message("ack", {"segments": segments})))
        segments.append((rollout_id, lease_epoch, offset))

    def take_outbox(self) -> list[tuple[bytes, Message]]:
        outbox, self.outbox = self.outbox, []
        self._acks.clear()
        return outbox

    @property
    def eval_first(self) -> bool:
        """In sync mode nothing trains while a version is measured."""
        return self.config.mode == "sync" and not self.evals.idle
