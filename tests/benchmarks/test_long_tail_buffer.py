"""The hooks by which `long_tail.py` gives rollouts their lengths and learns when they ended."""

from collections.abc import Callable
from types import ModuleType

import pytest

from async_r1.config import Config
from async_r1.tasks.protocol import Prompt
from buffer.granting import Granting
from buffer.lease_book import LeaseBook
from buffer.rollout import Rollout, RolloutState
from buffer.stats import BufferStats


def test_leases_and_scores(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Granting, "_lease", Granting._lease)  # put back afterwards
    monkeypatch.setattr(Rollout, "score", Rollout.score)
    module = script("long_tail_buffer")
    scored_at: dict[int, float] = {}
    module.draw_lengths(lambda rollout_id: 100 + rollout_id)
    module.note_scores(scored_at)
    book = LeaseBook(3)
    group = book.open_group(Prompt("p", "2 + 2 = ?", "4", 1), version=0, now=0.0)
    granting = Granting(Config(), book, BufferStats())
    leases = [granting._lease(rollout, b"actor", 0) for rollout in group.members]
    assert [lease.max_new_tokens for lease in leases] == [100, 101, 102]
    first, second, _ = group.members
    first.state = RolloutState.FINISHED
    first.score(1, {"task": 1.0, "total": 1.0}, "4")
    second.score(0, {"task": 1.0, "total": 1.0}, "4")  # of a lease that it does not hold
    assert list(scored_at) == [first.rollout_id]
