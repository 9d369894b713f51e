"""A real buffer process under load, killed and started again, and a ledger of what it promised.

Actors and learner are threads that speak through the real clients; the actors sample nothing but
numbers, and write down every token, every acknowledgement and every lease.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from actors.client import BufferClient as ActorClient
from async_r1.failpoints import VARIABLE
from async_r1.journal_format import read_records
from async_r1.messages import read_batch
from async_r1.role import Resolved
from async_r1.run_dir import RunDir, write_json
from async_r1.schema import to_dict
from async_r1.types import Batch, FinishReason, Lease, LeaseKind, Score
from learner.client import BufferClient as LearnerClient
from tests.buffer.fakes import make_config, make_segment

DEADLINE_S = 120.0
PROMPT = [1, 2, 3]
Key = tuple[int, int]  # rollout id, lease epoch


@dataclass
class Ledger:
    """What actors did and were told."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    tokens: dict[Key, list[int]] = field(default_factory=dict)  # prefix and what was sampled
    acknowledged: Counter[int] = field(default_factory=Counter)  # tokens by rollout
    scored: set[int] = field(default_factory=set)
    trained: Counter[int] = field(default_factory=Counter)  # by group
    versions: list[int] = field(default_factory=list)  # of each batch
    batch_ids: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def check(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(problem)

    def leased(self, lease: Lease) -> None:
        key = lease.rollout_id, lease.lease_epoch
        prefix = lease.prefix_ids.tolist()
        with self.lock:
            self.check(key not in self.tokens, f"{key} was leased twice")
            told = self.acknowledged[lease.rollout_id]
            self.check(len(prefix) >= told, f"{key} starts at {len(prefix)}, {told} were promised")
            earlier = [epoch for i, epoch in self.tokens if i == lease.rollout_id]
            self.check(all(epoch < key[1] for epoch in earlier), f"{key} after {earlier}")
            known = [self.tokens[lease.rollout_id, epoch] for epoch in earlier]
            self.check(
                not prefix or any(tokens[: len(prefix)] == prefix for tokens in known),
                f"{key} has a prefix that nobody sampled",
            )
            self.tokens[key] = prefix

    def took(self, batch: Batch, cap: int) -> None:
        starts = np.concatenate([[0], np.cumsum(batch.completion_lens)])
        with self.lock:
            for i, rollout_id in enumerate(batch.rollout_ids.tolist()):
                part = batch.token_ids[starts[i] : starts[i + 1]].tolist()
                sampled = [t for (r, _), t in self.tokens.items() if r == rollout_id]
                self.check(part in sampled, f"rollout {rollout_id} trains what nobody sampled")
                told = self.acknowledged[rollout_id]
                self.check(len(part) >= told, f"{rollout_id} lost some of {told} tokens")
            for group in np.unique(batch.item_ids).tolist():
                self.trained[group] += 1
                self.check(self.trained[group] <= cap, f"group {group} trains too often")
            self.check(batch.batch_id not in self.batch_ids, f"batch {batch.batch_id} twice")
            self.batch_ids.append(batch.batch_id)


class _Client(ActorClient):
    """Notes what it is told before it acts on it."""

    ledger: Ledger

    def _acknowledged(self, key: tuple[int, int, int]) -> None:
        message = self._unacknowledged.get(key)
        if message is not None and not self.revoking:
            end = key[2] + len(message.arrays["token_ids"])
            with self.ledger.lock:
                told = self.ledger.acknowledged
                told[key[0]] = max(told[key[0]], end)
        super()._acknowledged(key)

    revoking = False

    def _revoked(self, rollout_id: int, epoch: int) -> None:
        self.revoking = True
        super()._revoked(rollout_id, epoch)
        self.revoking = False

    def _take(self, message: Any, *rest: Any) -> None:
        if message.kind == "scored":
            with self.ledger.lock:
                self.ledger.scored.add(message.values["rollout_id"])
        super()._take(message, *rest)


class CrashRun:
    """`python -m buffer` with its peers; `close` whatever happens."""

    def __init__(self, path: Path, *, num_updates: int, **sections: Any) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        self.run_dir = RunDir.create(path)
        self.num_updates = num_updates
        self.config = make_config(
            **{
                "task": {"num_train": 50, "num_eval": 4, "levels": [1], "max_new_tokens": 400},
                "actors": {"max_concurrent": 6, "prefetch": 0, "rollout_token_budget": 8,
                           "count": 2, "dead_after_s": 5.0},
                "eval": {"every": 3},
                **sections,
                "buffer": {"group_size": 2, "journal": True, "keep_zero_variance": True,
                           **sections.get("buffer", {})},
            }
        )  # fmt: skip
        resolved = Resolved(
            config=self.config,
            run_dir=str(path),
            buffer_address=self.address,
            weights_address="",
            started_at=time.time(),
        )
        write_json(self.run_dir.resolved, to_dict(resolved))
        self.ledger = Ledger()
        self.version = 0
        self.done = threading.Event()
        self.failed: list[BaseException] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.threads = [threading.Thread(target=self._guard, args=(self._learn,))]
        self.threads += [
            threading.Thread(target=self._guard, args=(self._act, i))
            for i in range(self.config.actors.count)
        ]

    def start(self, failpoint: str = "") -> None:
        """Start the buffer, the first time its peers, too."""
        command = [sys.executable, "-m", "buffer", "--config", str(self.run_dir.resolved)]
        env = {**os.environ, VARIABLE: failpoint}
        with self.run_dir.log("buffer").open("ab") as output:
            self.process = subprocess.Popen(command, stderr=output, env=env)
        if self.threads[0].ident is None:
            for thread in self.threads:
                thread.start()

    @property
    def buffer(self) -> subprocess.Popen[bytes]:
        assert self.process is not None
        return self.process

    def wait_for(self, steps: int) -> None:
        """Until the learner has done so many."""
        deadline = time.monotonic() + DEADLINE_S
        while len(self.ledger.batch_ids) < steps and not self.failed:
            assert time.monotonic() < deadline, self.log()
            assert self.buffer.poll() is None, self.log()
            time.sleep(0.005)

    def wait_for_death(self) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while self.buffer.poll() is None and not self.failed:
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.01)
        assert not self.failed, (self.failed, self.log())
        assert self.buffer.returncode == -signal.SIGKILL, self.log()

    def end(self, *, whole: bool = True) -> None:
        """To the end of the run, and the checks of what is left; `whole`: of the whole journal."""
        for thread in self.threads:
            thread.join(DEADLINE_S)
        assert not self.failed, (self.failed, self.log())
        assert self.buffer.wait(DEADLINE_S) == 0, self.log()
        assert not self.ledger.problems, self.ledger.problems
        assert len(self.ledger.batch_ids) == self.num_updates
        if whole:
            self.check_store()

    def log(self) -> str:
        return self.run_dir.log("buffer").read_text()[-3000:]

    def close(self) -> None:
        self.done.set()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for thread in self.threads:
            if thread.ident is not None:
                thread.join(DEADLINE_S)

    def check_store(self) -> None:
        """The journal has what was promised."""
        stored: Counter[int] = Counter()
        scored, epochs, draws = set(), [], []
        for record in read_records(self.run_dir.journal):
            message = record.message
            if message.kind == "segment":
                end = message.values["token_offset"] + len(message.arrays["token_ids"])
                stored[message.values["rollout_id"]] = end
            elif message.kind == "score":
                scored.add(message.values["rollout_id"])
            elif message.kind == "leases":
                epochs += [tuple(pair) for pair in message.values["leases"]]
            elif message.kind == "draw":
                draws.append(message.values["batch_id"])
        assert len(set(epochs)) == len(epochs), "an epoch was given out twice"
        assert set(self.ledger.tokens) <= set(epochs), "a lease was sent that is not written"
        evals = {i for i in self.ledger.acknowledged if i not in stored}
        for rollout_id, told in self.ledger.acknowledged.items():
            assert stored[rollout_id] >= told or rollout_id in evals, rollout_id
        assert self.ledger.scored - evals <= scored
        assert evals <= self.eval_ids
        assert set(self.ledger.batch_ids) <= set(draws) and len(set(draws)) == len(draws)

    @property
    def eval_ids(self) -> set[int]:
        records = read_records(self.run_dir.journal)
        opened = [r.message.values for r in records if r.message.kind == "eval_opened"]
        return {rollout_id for values in opened for rollout_id in values["rollout_ids"]}

    def _guard(self, body: Any, *arguments: int) -> None:
        try:
            body(*arguments)
        except BaseException as error:  # told in the test's thread
            self.failed.append(error)
            self.done.set()

    def _act(self, index: int) -> None:
        client = _Client(self.address, f"actor_{index:03d}", index, DEADLINE_S)
        client.ledger = self.ledger
        rng = np.random.default_rng([7, index])
        work: dict[Key, tuple[Lease, list[int], int]] = {}  # tokens so far, length in the end
        client.join(time.monotonic())
        while not self.done.is_set():
            now = time.monotonic()
            inbox = client.receive(now, 0.002)
            client.heartbeat(now, 0.1)
            for key in inbox.revoked:
                work.pop(key, None)
            for lease in inbox.leases:
                self.ledger.leased(lease)
                if lease.kind is LeaseKind.SCORE:
                    self._score(client, lease)
                    continue
                prefix = lease.prefix_ids.tolist()
                length = len(prefix) + int(rng.integers(1, 20))
                key = lease.rollout_id, lease.lease_epoch
                work[key] = lease, prefix, length
            for key, (lease, tokens, length) in list(work.items()):
                if not client.blocked and self._advance(client, rng, lease, tokens, length):
                    del work[key]
            client.request_leases(self.config.actors.max_concurrent - len(work))
            if inbox.stop:
                break
        client.close()

    def _advance(
        self, client: _Client, rng: np.random.Generator, lease: Lease, tokens: list[int], end: int
    ) -> bool:
        """A segment of up to four tokens; whether it is the lease's last."""
        budget = lease.token_budget
        stop = min(end, len(lease.prefix_ids) + budget if budget else end)
        new = [int(t) for t in rng.integers(3, 100, size=min(4, stop - len(tokens)))]
        last = len(tokens) + len(new) == stop
        segment = make_segment(
            new,
            prefix=tokens,
            versions=[self.version] * len(new),
            finish=FinishReason.STOP if last and stop == end else None,
            suspend=last and stop != end,
            prompt=PROMPT if len(tokens) == len(lease.prefix_ids) else None,
            rollout_id=lease.rollout_id,
            lease_epoch=lease.lease_epoch,
        )
        tokens += new
        with self.ledger.lock:
            self.ledger.tokens[lease.rollout_id, lease.lease_epoch] = list(tokens)
        client.send_segment(segment)
        if last and stop == end:
            self._score(client, lease)
        return last

    def _score(self, client: _Client, lease: Lease) -> None:
        total = float(lease.member)
        client.send_score(
            Score(
                rollout_id=lease.rollout_id,
                lease_epoch=lease.lease_epoch,
                rewards={"task": total, "total": total},
                text="",
            )
        )

    def _learn(self) -> None:
        client = LearnerClient(self.address, "learner_000", DEADLINE_S)
        client.hello(0)
        for step in range(1, self.num_updates + 1):
            batch = read_batch(client.request_batch(self.version, DEADLINE_S, self._check_done))
            self.ledger.took(batch, self.config.buffer.max_times_sampled)
            time.sleep(0.05)
            self.version += 1
            client.step_done(
                batch_id=batch.batch_id,
                step=step,
                policy_version=self.version,
                trained_tokens=int(batch.mask.sum()),
            )
        client.finish(self.version, DEADLINE_S, self._check_done)
        client.close()

    def _check_done(self, waited_s: float) -> None:
        if self.done.is_set():
            raise RuntimeError("somebody else failed")
