"""The buffer of `long_tail.py`: the real one, with a length per rollout, and draws written down.

Started in the place of `python -m buffer` with `--median --sigma --top --seed` before the rest. At
each draw it appends a row to RUN/long_tail.jsonl.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import common

import buffer.server
from async_r1.role import Role, Stopped
from async_r1.types import Lease
from buffer.core import BufferCore
from buffer.granting import Granting
from buffer.groups import ClosedGroup
from buffer.rollout import Rollout, Verdict


def draw_lengths(length_of: Callable[[int], int]) -> None:
    """From now on leases end a rollout at its own length instead of `task.max_new_tokens`."""
    lease = Granting._lease

    def with_length(self: Granting, rollout: Rollout, peer: bytes, version: int) -> Lease:
        granted = lease(self, rollout, peer, version)
        return replace(granted, max_new_tokens=length_of(rollout.rollout_id))

    Granting._lease = with_length  # type: ignore[method-assign]


def note_scores(scored_at: dict[int, float]) -> None:
    """From now on the time at which a rollout was scored is noted under its id."""
    score = Rollout.score

    def and_note(self: Rollout, *args: Any, **options: Any) -> Verdict:
        verdict = score(self, *args, **options)
        if verdict is Verdict.ACCEPTED:
            scored_at[self.rollout_id] = time.monotonic()
        return verdict

    Rollout.score = and_note  # type: ignore[method-assign]


class WatchedCore(BufferCore):
    """Writes down what became of rollouts at each draw."""

    path: Path
    scored_at: ClassVar[dict[int, float]] = {}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._record_rollouts = self._record
        self._record = self._record_draw
        self._rows = self.path.open("a", buffering=1)

    def _record_draw(self, step: int, groups: list[ClosedGroup], *rest: Any) -> None:
        self._record_rollouts(step, groups, *rest)
        now, mask = time.monotonic(), self.drawing.staleness.mask
        kept = [r for group in self.drawing.table.items().values() for r in group.rollouts]
        live = [r for group in self.book.groups.values() for r in group.members]
        row = {
            "at_s": now,
            "version": self.version,
            "received": self.stats.tokens_received,
            "live": sum(rollout.num_tokens for rollout in live),
            "kept": sum(rollout.num_tokens for rollout in kept),
            # Of each drawn rollout: its tokens, those that train, the wait since it was finished,
            # its leases.
            "drawn": [
                [
                    rollout.num_tokens,
                    int(mask(rollout.versions, self.version).sum()),
                    now - self.scored_at[rollout.rollout_id],
                    rollout.lease_epoch,
                ]
                for group in groups
                for rollout in group.rollouts
            ],
        }
        self._rows.write(json.dumps(row) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--median", type=float, required=True)
    parser.add_argument("--sigma", type=float, required=True)
    parser.add_argument("--top", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    args, rest = parser.parse_known_args()
    role = Role.start("buffer", rest)
    WatchedCore.path = role.run_dir.root / "long_tail.jsonl"
    draw_lengths(
        partial(
            common.target_length,
            args.seed,
            log_median=math.log(args.median),
            sigma=args.sigma,
            top=args.top,
        )
    )
    note_scores(WatchedCore.scored_at)
    buffer.server.BufferCore = WatchedCore  # type: ignore[misc]
    try:
        buffer.server.serve(role)
    except Stopped:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
