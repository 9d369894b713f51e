"""The buffer of `long_tail.py`: the real one, with a length per rollout, and draws written down.

Started in the place of `python -m buffer` with `--median --sigma --top --seed` before the rest. At
each draw it appends a row to RUN/long_tail.jsonl.
"""

import argparse
import json
import math
import sys
import time
from dataclasses import replace
from functools import partial
from typing import Any

import common

import buffer.server
from async_r1.role import Role, Stopped
from async_r1.types import Lease
from async_r1.wire import Message
from buffer.core import BufferCore
from buffer.granting import Granting
from buffer.groups import ClosedGroup
from buffer.rollout import Rollout, RolloutState


class DrawnLengths(Granting):
    """Leases end a rollout at its own length instead of `task.max_new_tokens`."""

    lengths: partial[int]

    def _lease(self, rollout: Rollout, peer: bytes, version: int) -> Lease:
        lease = super()._lease(rollout, peer, version)
        return replace(lease, max_new_tokens=self.lengths(rollout.rollout_id))


class WatchedCore(BufferCore):
    """Notes when rollouts were finished, and what became of them at each draw."""

    lengths: partial[int]
    path: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.granting = DrawnLengths(self.config, self.book, self.stats)
        self.granting.lengths = self.lengths
        self._scored_at: dict[int, float] = {}
        self._record_rollouts = self._record
        self._record = self._record_draw
        self._rows = self.path.open("a", buffering=1)

    def _on_score(self, peer: bytes, message: Message) -> None:
        rollout = self.book.rollouts.get(message.values.get("rollout_id", -1))
        super()._on_score(peer, message)
        if rollout is not None and rollout.state is RolloutState.SCORED:
            self._scored_at.setdefault(rollout.rollout_id, time.monotonic())

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
                    now - self._scored_at[rollout.rollout_id],
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
    WatchedCore.lengths = partial(
        common.target_length,
        args.seed,
        log_median=math.log(args.median),
        sigma=args.sigma,
        top=args.top,
    )
    buffer.server.BufferCore = WatchedCore  # type: ignore[misc]
    try:
        buffer.server.serve(role)
    except Stopped:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
