"""Every combination of rates on a small grid is refused at start, or goes on for ever.

A toy producer leases whatever is admitted and closes it in random order, some without variance,
stragglers last; a toy learner asks for batches. What the rules accept must make progress under
every sampler; what they refuse for want of groups must not.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product
from math import ceil
from typing import Any

import numpy as np
import pytest

from async_r1 import rules_buffer
from async_r1.config import Config
from buffer.drawing import Drawing
from buffer.groups import ClosedGroup, Group
from buffer.stats import BufferStats
from tests.buffer.fakes import closed_group, make_config

NUM_DRAWS = 10
SAMPLERS = ("fifo", "lifo", "uniform", "prioritized")


class Quiet:
    """In place of the accounting, which is not what is tested here."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


class QuietStats(BufferStats):
    def __init__(self) -> None:
        super().__init__()
        self.selection = Quiet()  # type: ignore[assignment]

    def take_draw_info(self) -> dict[str, Any]:
        return {}


@cache
def template(equal: bool, version: int) -> ClosedGroup:
    return closed_group(0, [1.0, 1.0 if equal else 0.0], opened_version=version)


class Toy:
    """A producer and a learner around a `Drawing`, without anything between."""

    def __init__(self, config: Config, seed: int, zero_variance: float, slow: bool = False) -> None:
        """`slow`: the learner asks only when everything that is leased has closed."""
        self.slow = slow
        self.drawing = Drawing(config, QuietStats())
        self.config, self.zero_variance = config, zero_variance
        self.rng = np.random.default_rng(seed)
        self.live: list[tuple[int, int]] = []  # group and its version
        self.version = self.next_group = self.draws = 0

    def run(self) -> bool:
        """Whether all draws came about."""
        for _ in range(40 * NUM_DRAWS):
            if self.draws == NUM_DRAWS:
                return True
            if not self.events():
                return False
        return False

    def events(self) -> bool:
        """One thing that can happen; False if nothing can, not even the close of a straggler."""
        while self.drawing.admission.admits(self.version):
            self.drawing.admission.opened()
            self.live.append((self.next_group, self.version))
            self.next_group += 1
            assert self.next_group < 2000, "more and more is leased and nothing of it trains"
        if self.slow and self.live:
            self.close(int(self.rng.integers(len(self.live))))
            return True
        self.drawing.requested(self.version)
        if self.drawing.draw(self.version, self.live_groups()) is not None:
            self.drawing.acknowledged(self.drawing._num_batches)
            self.draws += 1
            if self.draws % self.config.learner.updates_per_publish == 0:
                self.version += 1
                self.drawing.published(self.version)
        elif self.live:
            self.close(int(self.rng.integers(len(self.live))))
        else:
            return self.drawing.admission.admits(self.version)  # again, if a quota was given back
        valid, problem = self.drawing.check_valid()
        assert valid, problem
        return True

    def close(self, index: int) -> None:
        group_id, version = self.live.pop(index)
        equal = self.rng.random() < self.zero_variance
        self.drawing.put(replace(template(equal, version), group_id=group_id))

    def live_groups(self) -> list[Group]:
        return [
            Group(group_id=group_id, prompt=template(False, 0).prompt, members=[],
                  opened_version=version, opened_at=0.0)
            for group_id, version in self.live
        ]  # fmt: skip


def grid() -> Iterator[dict[str, dict[str, Any]]]:
    number = 0
    for eta, per_publish, batch, ratio, times, min_size in product(
        (0, 1, 3), (1, 2), (1, 3), (1.0, 1.5, 2.0, 4.0), (1, 2, 4), (0, 4)
    ):
        number += 1  # the rest of the options in turn, so that all of their pairs are met
        yield {
            "staleness": {"eta": eta, "overdue": ("mask", "wait", "drop")[number % 3]},
            "learner": {"updates_per_publish": per_publish, "groups_per_update": batch},
            "buffer": {
                "group_size": 2,
                "samples_per_insert": ratio,
                "max_times_sampled": times,
                "min_size": min_size,
                "samples_per_insert_tolerance": (0.0, 0.5, 2.0)[number % 3],
                "sampler": SAMPLERS[number % 4],
                "item": ("group", "rollout")[number % 2],
                "max_size": (4096, batch, batch + 2)[number % 5 % 3],
                "remover": ("fifo", "lowest_priority")[number % 7 < 3],
                "refill_max": (0, 2)[number % 11 < 4],
                "max_unusable_publishes": 10**6,
            },
        }


def test_what_is_accepted_makes_progress_and_what_is_refused_does_not() -> None:
    seen: Counter[str] = Counter()
    for number, sections in enumerate(grid()):
        config = make_config(**sections)
        problem = next(iter([*rules_buffer.groups(config), *rules_buffer.rates(config)]), "")
        name = problem.partition(" ")[0] + (" times" if "max_times" in problem else "")
        if not problem:
            zero_variance = (0.0, 0.4, 0.7)[number % 3]
            toy = Toy(config, 0, zero_variance, slow=number % 5 < 2)
            assert toy.run(), f"accepted, but stuck: {sections}"
        elif certain_to_stick(config):
            assert not Toy(config, 0, 0.0).run(), f"refused ({problem}), but goes on: {sections}"
            seen["stuck"] += 1
        seen[name] += 1
    assert seen[""] > 60 and seen["stuck"] > 50
    assert seen["buffer.samples_per_insert"] > 20 and seen["buffer.samples_per_insert times"] > 50
    assert seen["buffer.min_size"] > 5


def certain_to_stick(config: Config) -> bool:
    """Without the first batch's groups, or with more consumed than is leased, whatever the order.

    Between that and the rule lies what sticks only if groups leave in an unlucky order.
    """
    buffer, learner, eta = config.buffer, config.learner, config.staleness.eta
    horizon = (eta + 1) * learner.updates_per_publish * learner.groups_per_update
    leased = ceil(horizon / buffer.samples_per_insert)
    first = leased < max(learner.groups_per_update, buffer.min_size)
    consumed = NUM_DRAWS * learner.groups_per_update
    versions = NUM_DRAWS // learner.updates_per_publish
    horizon = (versions + eta + 1) * learner.updates_per_publish * learner.groups_per_update
    roomy = buffer.max_size >= 4096  # what a full table gives up makes room for others
    return roomy and bool(
        first or consumed / buffer.max_times_sampled > horizon / buffer.samples_per_insert + 1
    )


@pytest.mark.parametrize("item", ["group", "rollout"])
def test_waiting_for_stragglers_under_replay_does_not_stick(item: str) -> None:
    """overdue=wait, the table kept for several draws, and the oldest group closing last."""
    for seed in range(6):
        config = make_config(
            staleness={"eta": 2, "overdue": "wait"},
            buffer={"item": item, "max_times_sampled": 3, "samples_per_insert": 2.0,
                    "sampler": SAMPLERS[seed % 4]},
        )  # fmt: skip
        toy = Toy(config, seed, 0.2)
        close = toy.close
        toy.close = lambda index, close=close: close(-1)  # type: ignore[method-assign,misc]
        assert toy.run()
