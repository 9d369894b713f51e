"""When suspended rollouts go on: what the order of leases does to overdue tokens, in simulation.

    .venv/bin/python benchmarks/lease_order.py [--json]

The real buffer in this process; one simulated actor whose slots all sample the same number of
tokens in a turn; a learner that takes a fixed number of turns for a step. Turns are the only clock,
so the figures do not depend on the machine. `suspension`: a suspended rollout is eligible once the
version has advanced since its suspension. `opening`: since its group was opened, as the buffer has
it. `whole`: leases have no token budget.
"""

import argparse
import sys
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import common
from load_actors import Load, LoadActor

from actors.client import Inbox
from async_r1.config import Config
from async_r1.fields import get
from async_r1.messages import read_batch, read_leases, write_score
from async_r1.schema import build
from async_r1.segment_messages import write_segment
from async_r1.tasks import load_task
from async_r1.types import Batch, LeaseKind, Score, Segment
from async_r1.wire import Message
from buffer import lease_queue
from buffer.core import BufferCore
from buffer.journal import NullJournal
from buffer.lease_queue import Rank
from buffer.rollout import Rollout, RolloutState

ACTOR, LEARNER = b"actor_000/1", b"learner_000/1"


@dataclass
class Setting:
    """One simulation."""

    eta: int
    overdue: str
    budget: int
    eligible: str  # whole, suspension, opening


@dataclass
class Desk:
    """The buffer, and what it sent to its one actor and its learner."""

    core: BufferCore
    turn: int = 0
    version: int = 0
    leases_received: int = 0
    asked: tuple[int, int] | None = None
    blocked: bool = False
    inboxes: dict[bytes, deque[Message]] = field(
        default_factory=lambda: {ACTOR: deque(), LEARNER: deque()}
    )

    def send(self, peer: bytes, message: Message) -> None:
        for to, answer in self.core.handle(peer, message, self.turn / 100):
            self.inboxes[to].append(answer)

    def get(self) -> int:
        """The version of the actor's weights."""
        return self.version

    # What `LoadActor` wants of its client.

    def receive(self, now: float) -> Inbox:
        inbox = Inbox([], [])
        while self.inboxes[ACTOR]:
            message = self.inboxes[ACTOR].popleft()
            if message.kind == "leases":
                inbox.leases.extend(read_leases(message))
            elif message.kind == "revoked":
                key = get(message, "rollout_id", int), get(message, "lease_epoch", int)
                inbox.revoked.append(key)
        self.leases_received += len(inbox.leases)
        return inbox

    def send_segment(self, segment: Segment) -> None:
        self.send(ACTOR, write_segment(segment))

    def send_score(self, score: Score) -> None:
        self.send(ACTOR, write_score(score))

    def request_leases(self, free_slots: int) -> None:
        if (free_slots, self.leases_received) != self.asked:
            self.asked = (free_slots, self.leases_received)
            values = {"free_slots": free_slots, "leases_received": self.leases_received}
            self.send(ACTOR, Message("lease_request", values))

    def heartbeat(self, now: float, every_s: float) -> None:
        pass


def main() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("--slots", type=int, default=64, help="rollouts at a time")
    parser.add_argument("--groups", type=int, default=8, help="of 8 rollouts, in a batch")
    parser.add_argument("--median", type=float, default=128, help="of the lengths [tokens]")
    parser.add_argument("--sigma", type=float, default=1.0, help="deviation of their logarithm")
    parser.add_argument("--top", type=int, default=2048, help="longest rollout [tokens]")
    parser.add_argument("--budget", type=int, default=256, help="tokens of a lease")
    parser.add_argument("--chunk", type=int, default=16, help="tokens of a rollout in a turn")
    parser.add_argument("--step", type=int, default=5, help="turns of a learner step")
    parser.add_argument("--updates", type=int, default=70, help="steps; the first 20 do not count")
    args = parser.parse_args()
    if args.quick:
        args.updates = 24
    facts = common.conditions(**{k: v for k, v in vars(args).items() if k not in ("json", "quick")})
    common.print_conditions(facts)
    results = [
        {**vars(setting), **simulate(args, setting)}
        for eta in (1, 4)
        for overdue in ("mask", "wait", "drop")
        for setting in (
            Setting(eta, overdue, 0, "whole"),
            Setting(eta, overdue, args.budget, "suspension"),
            Setting(eta, overdue, args.budget, "opening"),
        )
    ]
    header = ["eta", "overdue", "eligible since", "masked", "trained", "sampled", "batch"]
    rows = [
        [r["eta"], r["overdue"], r["eligible"], f"{r['masked_frac']:.1%}", r["trained_per_turn"],
         r["sampled_per_turn"], r["batch_turns"]]
        for r in results
    ]  # fmt: skip
    common.print_table(header, [[str(row[0]), *row[1:]] for row in rows])
    print("tokens of a turn that trained and that were sampled; turns from one batch to the next")
    return common.finish(args, {"settings": results, **facts})


def simulate(args: argparse.Namespace, setting: Setting) -> dict[str, float]:
    """Run one setting."""
    rank_of = lease_queue.rank_of
    if setting.eligible == "suspension":
        lease_queue.rank_of = _rank_since_suspension
    try:
        return _run(args, setting)
    finally:
        lease_queue.rank_of = rank_of


def _rank_since_suspension(rollout: Rollout, version: int) -> Rank:
    if rollout.kind is LeaseKind.EVAL or rollout.state is not RolloutState.SUSPENDED:
        return _RANK_OF(rollout, version)
    return Rank.ELIGIBLE if rollout.suspended_version < version else Rank.INELIGIBLE


_RANK_OF = lease_queue.rank_of


def _run(args: argparse.Namespace, setting: Setting) -> dict[str, float]:
    config = config_of(args, setting)
    desk = Desk(BufferCore(config, load_task(config.task), NullJournal()))
    load = Load(args.slots, args.chunk, args.median, args.sigma, args.top)
    actor = LoadActor(desk, load, desk)  # type: ignore[arg-type]
    desk.send(ACTOR, Message("hello", {"role": "actor", "index": 0}))
    desk.send(LEARNER, Message("hello", {"role": "learner", "name": "l", "policy_version": 0}))
    desk.inboxes[LEARNER].clear()
    desk.send(LEARNER, Message("batch_request", {"policy_version": 0}))
    training: Batch | None = None
    left = tokens = masked = start = sampled = 0
    while desk.version < args.updates:
        desk.turn += 1
        actor.turn(desk.turn / 100)
        while desk.inboxes[LEARNER]:
            message = desk.inboxes[LEARNER].popleft()
            if message.kind == "batch":
                training, left = read_batch(message), args.step
        if training is None:
            continue
        left -= 1
        if left:
            continue
        if desk.version == 20:
            start, sampled = desk.turn, actor.num_tokens
        if desk.version >= 20:
            tokens += len(training.mask)
            masked += int((training.mask == 0).sum())
        desk.version += 1
        values = {"batch_id": training.batch_id, "step": desk.version, "trained_tokens": 1}
        training = None
        desk.send(LEARNER, Message("step_done", {**values, "policy_version": desk.version}))
        desk.send(LEARNER, Message("batch_request", {"policy_version": desk.version}))
    turns = desk.turn - start
    return {
        "masked_frac": masked / tokens,
        "trained_per_turn": (tokens - masked) / turns,
        "sampled_per_turn": (actor.num_tokens - sampled) / turns,
        "batch_turns": turns / (args.updates - 20),
    }


def config_of(args: argparse.Namespace, setting: Setting) -> Config:
    values: dict[str, Any] = {
        "task": {"num_train": 4096, "num_eval": 8, "max_new_tokens": args.top},
        "model": {"max_length": args.top + 128},
        "eval": {"every": 0},
        "actors": {
            "max_concurrent": args.slots,
            "prefetch": 0,
            "rollout_token_budget": setting.budget,
        },
        "buffer": {"group_size": 8, "keep_zero_variance": True, "journal": False},
        "learner": {"groups_per_update": args.groups},
        "staleness": {"eta": setting.eta, "overdue": setting.overdue},
    }
    return build(Config, values)


if __name__ == "__main__":
    sys.exit(main())
