"""The log of refused messages: bounded, and nothing in it is lost count of."""

import numpy as np
import pytest

from buffer.refusals import BURST, INTERVAL_S, RefusalLog


@pytest.mark.parametrize("seed", range(5))
def test_every_refusal_is_said_or_counted_at_a_bounded_rate(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines: list[tuple[float, str]] = []
    now = 1000.0
    refusals = RefusalLog(lambda line: lines.append((now, line)))
    total = 3000
    for number in range(total):
        now += float(rng.exponential(0.01)) if rng.random() < 0.999 else 15.0
        refusals.refused("actor_000", f"reason_{number % 3}", f"number {number}", now)
    now += INTERVAL_S
    refusals.tick(now)
    summaries = [line for _, line in lines if " more messages in " in line]
    in_full = [line for _, line in lines if line not in summaries]
    assert len(in_full) + sum(int(line.split()[1]) for line in summaries) == total
    assert all(
        sum(int(part.split()[1]) for part in line.partition("(")[2].partition(")")[0].split(", "))
        == int(line.split()[1])
        for line in summaries
    )
    times = np.array([at for at, _ in lines])
    for at in times:  # in no stretch of an interval more than two bursts and their summaries
        assert ((times >= at) & (times < at + INTERVAL_S)).sum() <= 2 * (BURST + 1)
    assert len(lines) <= (BURST + 1) * ((now - 1000.0) / INTERVAL_S + 2)


def test_a_name_cannot_forge_lines() -> None:
    lines: list[str] = []
    RefusalLog(lines.append).refused(
        "x\n2026 INFO buffer: all is well", "malformed", "a\x1b[2Jb", 9
    )
    assert lines == ["rejected from x?2026 INFO buffer: all is well: a?[2Jb"]
