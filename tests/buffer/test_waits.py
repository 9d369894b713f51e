"""How long suspended rollouts wait, in lockstep with a history that is searched."""

from hypothesis import given, settings
from hypothesis import strategies as st

from buffer.waits import Waits

operations = st.tuples(
    st.sampled_from(["suspended", "leased", "left", "take"]), st.integers(0, 4), st.booleans()
)


@settings(deadline=None, max_examples=200)
@given(st.lists(operations, max_size=60))
def test_lockstep(script: list[tuple[str, int, bool]]) -> None:
    waits, version = Waits(), 0
    history: list[tuple[str, int, int]] = []  # what, rollout, version

    def longest(start: int) -> tuple[int, int, int]:
        """Of all waits that were still going on at `start` or began later."""
        versions = leases = waiting = 0
        for begin, (what, rollout_id, since) in enumerate(history):
            if what != "suspended":
                continue
            end = next(
                (i for i in range(begin + 1, len(history)) if history[i][1] == rollout_id),
                len(history),
            )
            waiting += end == len(history)
            if end < start or (end < len(history) and history[end][0] != "leased"):
                continue
            until = history[end][2] if end < len(history) else version
            versions = max(versions, until - since)
            others = [h for h in history[begin + 1 : end] if h[0] == "leased"]
            leases = max(leases, len(others))
        return waiting, versions, leases

    taken, waiting = 0, set()
    for what, rollout_id, advance in script:
        version += advance
        if what == "take":
            expected = longest(taken)
            assert tuple(waits.take(version).values()) == expected
            taken = len(history)
        elif what == "suspended" and rollout_id not in waiting:
            waits.suspended(rollout_id, version)
            waiting.add(rollout_id)
            history.append((what, rollout_id, version))
        elif what == "leased":
            waits.leased(rollout_id, version)
            waiting.discard(rollout_id)
            history.append((what, rollout_id, version))
        elif what == "left" and rollout_id in waiting:
            waits.left(rollout_id)
            waiting.discard(rollout_id)
            history.append((what, rollout_id, version))
