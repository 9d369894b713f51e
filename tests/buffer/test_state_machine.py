"""The buffer among peers that do anything in any order, over all configurations it accepts.

Hypothesis chooses the configuration and what happens: the machine below has a rule for everything
that a peer or the clock may do, and shrinks what fails. Every batch is checked against what the
actors really sampled, the staleness bound and the caps included; and from wherever a script ends, a
fair schedule must bring two more batches: no accepted configuration deadlocks.
"""

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from async_r1 import rules_buffer
from async_r1.config import Config
from tests.buffer.fakes import make_config
from tests.buffer.sim_actor import Actor
from tests.buffer.simulation import World

LENGTHS = {
    "constant": lambda rng: 4,
    "short": lambda rng: int(rng.integers(1, 9)),
    "long_tailed": lambda rng: int(rng.choice([1, 2, 3, 60])),
    "rarely_long": lambda rng: int(rng.choice([1, 2, 2, 3, 3, 4, 5, 60])),
}
MAX_EVENTS = 50_000  # of a fair schedule, for two batches: groups are of up to 5 x 60 tokens
MAX_ACTORS = 5


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Any combination of what decides about groups, draws and staleness, if the rules allow it."""
    group_size, groups = draw(st.integers(2, 5)), draw(st.integers(1, 4))
    sync = draw(st.booleans()) and draw(st.booleans())
    times = 1 if sync else draw(st.integers(1, 3))
    sections: dict[str, Any] = {
        "mode": "sync" if sync else "async",
        "buffer": {
            "group_size": group_size,
            "min_rollouts": draw(st.integers(1, group_size)),
            "group_deadline_versions": draw(st.integers(0, 2)),
            "group_deadline_s": 0.0 if sync else draw(st.sampled_from([0.0, 2.0])),
            "keep_zero_variance": draw(st.booleans()),
            "refill_max": draw(st.integers(0, 2)),
            "sampler": draw(st.sampled_from(["fifo", "lifo", "uniform", "prioritized"])),
            "max_size": groups + draw(st.integers(0, 20)),
            "item": draw(st.sampled_from(["group", "group", "rollout"])),
            "remover": draw(st.sampled_from(["fifo", "lowest_priority"])),
            "min_size": draw(st.sampled_from([1, 1, 4])),
            "max_times_sampled": times,
            "samples_per_insert": 1.0 if sync else draw(st.sampled_from([1.0, 1.0, 1.5, 2.0])),
            "samples_per_insert_tolerance": draw(st.sampled_from([0.0, 1.0])),
            "max_unusable_publishes": 10**6,
            "wait_timeout_s": 1e9,
        },
        "curriculum": {"screen": draw(st.sampled_from([0, 0, 2, 3]))},
        "learner": {"groups_per_update": groups, "updates_per_publish": draw(st.integers(1, 3))},
        "staleness": {
            "eta": 0 if sync else draw(st.integers(0, 4)),
            "overdue": draw(st.sampled_from(["mask", "wait", "drop"])),
        },
        "actors": {
            "count": 2,
            "segment_tokens": 3,
            "rollout_token_budget": draw(st.sampled_from([0, 4, 7])),
            "max_concurrent": draw(st.sampled_from([1, 3, 6, 20])),
        },
        "eval": {"every": draw(st.integers(0, 2)), "timeout_s": 1e9},
    }
    config = make_config(**sections)
    assume(
        not [*rules_buffer.groups(config), *rules_buffer.rates(config), *rules_buffer.items(config)]
    )
    return config


class Buffer(RuleBasedStateMachine):
    """One script of events."""

    world: World
    make_world: type[World] = World

    @initialize(
        config=configs(),
        seed=st.integers(0, 1000),
        lengths=st.sampled_from(sorted(LENGTHS)),
        zero_variance=st.sampled_from([0.0, 0.3, 0.7]),
        failures=st.sampled_from([0.0, 0.0, 0.2]),
    )
    def start(
        self, config: Config, seed: int, lengths: str, zero_variance: float, failures: float
    ) -> None:
        self.world = self.make_world(
            config=config,
            seed=seed,
            lengths=LENGTHS[lengths],
            zero_variance=zero_variance,
            failures=failures,
            turbulence=1e-9,  # actors may fall silent, but only when a rule says so
        )

    def _actor(self, number: int) -> Actor:
        return self.world.actors[number % len(self.world.actors)]

    # -- what peers do ----------------------------------------------------------------------

    @rule(count=st.integers(1, 60))
    def anything(self, count: int) -> None:
        """A stretch of ordinary life, to get anywhere at all."""
        for _ in range(count):
            self.world.something_happens()

    @rule(count=st.integers(1, 5))
    def batches_go_by(self, count: int) -> None:
        """Long enough that what is slow becomes overdue; it may be that nobody is there to work."""
        goal = self.world.step + count
        for _ in range(2000):
            if self.world.step >= goal or not self.world.something_happens():
                break

    @rule(number=st.integers(0, 9), twice=st.booleans())
    def message_arrives(self, number: int, twice: bool) -> None:
        actor = self._actor(number)
        if actor.outbox and not actor.silent and not actor.gone:
            self.world.deliver(actor, twice=twice)

    @rule(number=st.integers(0, 9))
    def actor_reads(self, number: int) -> None:
        actor = self._actor(number)
        if actor.inbox and not actor.silent and not actor.gone:
            actor.take()

    @rule(number=st.integers(0, 9), steps=st.integers(1, 8))
    def actor_samples(self, number: int, steps: int) -> None:
        actor = self._actor(number)
        for _ in range(steps):
            if actor.rollouts and not (actor.silent or actor.gone or actor.stopped):
                actor.sample()

    @rule()
    def learner_acts(self) -> None:
        if self.world.to_learner or not self.world.waiting:
            self.world.learn()

    @rule()
    def learner_starts_anew(self) -> None:
        """A batch on its way to it is lost; the draw is undone when it asks for another."""
        self.world.restart_learner()

    # -- what befalls them ------------------------------------------------------------------

    @rule(number=st.integers(0, 9))
    def actor_falls_silent(self, number: int) -> None:
        actor = self._actor(number)
        if not actor.gone and not actor.silent:
            self.world.silence(actor)

    @rule(number=st.integers(0, 9))
    def actor_wakes(self, number: int) -> None:
        """With all that it had, and the weights of now."""
        if self._actor(number).silent and not self._actor(number).gone:
            self.world.wake(self._actor(number))

    @rule(number=st.integers(0, 9))
    def actor_leaves(self, number: int) -> None:
        actor = self._actor(number)
        if not actor.gone and not actor.silent:
            self.world.leave(actor)

    @precondition(lambda self: len(self.world.actors) < MAX_ACTORS)
    @rule()
    def actor_joins(self) -> None:
        self.world.add_actor()

    @rule(share=st.sampled_from([0.01, 0.4, 1.1]))
    def time_passes(self, share: float) -> None:
        """A little, or long enough that who is silent counts as dead."""
        self.world.tick(share * self.world.config.actors.dead_after_s)

    # -- what must hold ---------------------------------------------------------------------

    @invariant()
    def parts_are_valid(self) -> None:
        if hasattr(self, "world"):
            core = self.world.core
            for part in (core.book, core.drawing):
                valid, problem = part.check_valid()
                assert valid, problem
            assert core.error is None, core.error

    def teardown(self) -> None:
        """From here on nothing bad happens: batches must come, in boundedly many events."""
        if not hasattr(self, "world"):
            return
        world = self.world
        for actor in world.actors:
            if actor.silent and not actor.gone:
                world.wake(actor)
        while sum(not actor.gone for actor in world.actors) < 2:
            world.add_actor()
        world.run(world.step + 2, max_events=MAX_EVENTS)
        assert world.error is None
        eta = world.config.staleness.eta
        for batch in world.batches:
            ages = (batch.policy_version - batch.versions)[batch.mask == 1]
            assert ages.max() <= eta


def explore(
    examples: int,
    steps: int,
    *,
    machine: type[Buffer] = Buffer,
    derandomize: bool = False,
) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=derandomize,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_every_script_keeps_the_bound_and_goes_on() -> None:
    explore(20, 25, derandomize=True)  # the same scripts every time; below, others


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_long_scripts() -> None:
    explore(1500, 60)
