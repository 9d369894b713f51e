"""The buffer's process: one socket, one thread, one loop around `BufferCore`."""

import gc
import logging
import time
from typing import Any

from async_r1.channels import Router
from async_r1.failpoints import failpoint
from async_r1.journal_format import Damage, read_records
from async_r1.model_files import vocab_size
from async_r1.role import Role
from async_r1.tasks import check_task, load_task
from async_r1.wire import Message
from buffer.core import BufferCore
from buffer.journal import FileJournal, Journal, NullJournal
from buffer.recorder import record_extremes
from buffer.restore import Replay
from buffer.snapshot import snapshot

TICK_S = 0.5
GC_ALLOCATIONS = 50_000  # of containers, between looks for young garbage: there is hardly any
DRAIN_S = 2.0  # time for the last messages to leave

log = logging.getLogger("buffer")


def serve(role: Role) -> None:
    """Serve until the learner finished and everybody was told; if there is a journal, from where
    it ends.

    Raises:
        AsyncR1Error: the run cannot go on; the learner was told the same.
    """
    config = role.config
    role.status("starting", f"loading task {config.task.name}")
    task = load_task(config.task)
    check_task(task, evals=config.eval.every > 0)
    streams = {"buffer": role.metrics("buffer"), "eval": role.metrics("eval")}
    journal = _open_journal(role)

    def write_row(stream: str, row: dict[str, Any]) -> None:
        streams[stream].write(row)

    core = BufferCore(
        config,
        task,
        journal,
        vocab_size=vocab_size(config.model.path),
        write_row=write_row,
        record=lambda step, groups, failed: record_extremes(
            role.run_dir, step, groups, config.logging.rollouts_kept, failed
        ),
    )
    if config.buffer.journal:
        role.status("starting", "reading the journal")
        _restore(core, role, journal)
    router = Router(role.resolved.buffer_address)
    role.status("running", f"listening on {role.resolved.buffer_address}")
    # Prompts are millions of objects that stay: without this, collections look at all of them.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 100)
    try:
        _loop(core, router, journal)
    finally:
        router.close()
        journal.close()
    role.status("done")


def _open_journal(role: Role) -> Journal:
    buffer = role.config.buffer
    if not buffer.journal:
        return NullJournal()
    return FileJournal(
        role.run_dir.journal, fsync=buffer.fsync, fsync_interval_s=buffer.fsync_interval_s
    )


def _restore(core: BufferCore, role: Role, journal: Journal) -> None:
    assert isinstance(journal, FileJournal)
    started = time.monotonic()
    found: list[Damage] = list(journal.damage)
    replay = Replay(core)
    replay.run(read_records(role.run_dir.journal, found.append))
    journal.num_damaged = len(found)
    for damage in found:
        log.error("journal: %s", damage)
    if not replay.num_records and not found:
        return
    replay.restart(damaged=bool(found))
    lost = ", ".join(f"{count} {kind}" for kind, count in sorted(replay.lost.items()))
    log.warning(
        "went on from the journal: %d records in %.2f s, version %d, step %d; damaged places: %d%s",
        replay.num_records,
        time.monotonic() - started,
        core.version,
        core.step,
        len(found),
        f"; records without effect because of them: {lost}" if lost else "",
    )


def _loop(core: BufferCore, router: Router, journal: Journal) -> None:
    buffer = core.config.buffer
    compacts = buffer.journal_retention == "compact"
    behind = time.monotonic() - core.state.now  # the core's clock goes on where its journal ends
    next_tick = time.monotonic()
    while not core.finished and core.error is None:
        received = router.receive_all(max(0.0, next_tick - time.monotonic()))
        now = time.monotonic()
        outgoing = core.handle_all(received, now - behind) if received else []
        tick = now >= next_tick
        if tick:
            outgoing = outgoing + core.tick(now - behind)
            next_tick = now + TICK_S
        journal.flush()  # before anybody hears of it
        failpoint("acknowledge")
        for peer, message in outgoing:
            router.send(peer, message)
        if tick and compacts and isinstance(journal, FileJournal):
            if journal.log_bytes > buffer.journal_max_bytes:
                journal.compact(snapshot(core))
    _drain(router, core)
    if core.error is not None:
        raise core.error


def _drain(router: Router, core: BufferCore) -> None:
    """Stay connected until the last messages were fetched: peers close after reading them. Actors
    that come back only now hear of the end, too."""
    deadline = time.monotonic() + DRAIN_S
    told = {*core.granting.actors, *core.state.learners}
    while time.monotonic() < deadline:
        received = router.receive(0.1)
        if received is not None and received[0] not in told:
            router.send(received[0], Message("stop"))
            told.add(received[0])
        if received is not None and getattr(received[1], "kind", "") == "bye":
            deadline = min(deadline, time.monotonic() + 0.3)
