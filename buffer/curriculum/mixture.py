"""The curriculum: weighted components over one estimate of success, behind common gates."""

from collections.abc import Iterator
from dataclasses import astuple
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from async_r1.config_curriculum import CurriculumConfig
from async_r1.errors import ConfigError
from buffer.curriculum.components import make_components
from buffer.curriculum.draw import Draw
from buffer.curriculum.greso import Greso
from buffer.curriculum.levels import Levels
from buffer.curriculum.posterior import Posterior
from buffer.curriculum.protocol import Indices, Outcome
from buffer.curriculum.recent import Recent
from buffer.curriculum.roster import Roster, Status
from buffer.curriculum.walk import Walk

_STREAM = 1001  # of the run's seed
_MAX_LEVELS = 64  # that the metrics name


class Mixture:
    """Draws each prompt by one of the components, chosen by weight.

    What closes is noted at the next draw, in order of prompts: in sync mode the state then does not
    depend on which group closed first.
    """

    def __init__(self, options: CurriculumConfig, labels: NDArray[Any], seed: int) -> None:
        """`labels` [num_prompts]: difficulty, larger is harder."""
        assert len(labels)
        self._options = options
        self._seed = seed
        self._levels = Levels(labels)
        self._roster = Roster(len(labels))
        self._posterior = Posterior(self._levels.code, len(self._levels.values), options.success)
        self._greso = Greso(options.greso, len(labels), seed) if options.greso.enabled else None
        self._unsolved = np.zeros(len(labels), np.uint8)  # trials in a row without success
        self._last_drawn = np.zeros(len(labels), np.int32)  # number of the draw, from 1
        self._walk = Walk(
            self._roster,
            seed,
            skip_in_flight=options.skip_in_flight,
            passes=self._greso.passes if self._greso else None,
        )
        self._components, weights = make_components(
            options,
            walk=self._walk,
            levels=self._levels,
            unsolved=self._unsolved,
            last_drawn=self._last_drawn,
        )
        self._weights = np.asarray(weights) / sum(weights)
        self._pending: list[Outcome] = []  # trials 0: abandoned
        self._num_drawn = self._num_seen = self._num_repeated = 0
        self._version = 0
        names = [component.name for component in self._components]
        self._recent = Recent([*names, "review", "fallback"])
        self._skipped_frac = 0.0  # of the last candidates

    def sample(self, count: int, version: int) -> Indices:
        self._note_pending()
        rng = np.random.default_rng([self._seed, _STREAM, self._num_drawn])
        passes = partial(self._greso.passes, key=self._num_drawn) if self._greso else None
        draw = Draw(self._options, self._roster, self._posterior, passes, rng=rng, version=version)
        names: list[str] = []
        for name, prompts in self._choices(count, draw):
            for prompt in prompts:
                names.append(name)
                draw.chosen.append(prompt)
                self.opened(prompt, version)
        chosen = np.asarray(draw.chosen, np.int64)
        self._recent.add(names, self._posterior.mean(chosen, version).tolist())
        if draw.skipped_frac is not None:
            self._skipped_frac = draw.skipped_frac
        return chosen

    def _choices(self, count: int, draw: Draw) -> Iterator[tuple[str, Iterator[int]]]:
        """By whom, and what; until there are `count`."""
        retired = self._roster.retired
        reviews = int((draw.rng.random(count) < self._options.retire.review).sum())
        if reviews and len(retired):
            reviews = min(reviews, len(retired))
            yield "review", (retired.first for _ in range(reviews))
        numbers = draw.rng.multinomial(count - len(draw.chosen), self._weights)
        for component, number in zip(self._components, numbers.tolist(), strict=True):
            if number:
                yield component.name, component.choose(number, draw)
        while missing := count - len(draw.chosen):
            yield "fallback", (self._fallback(draw) for _ in range(missing))

    def _fallback(self, draw: Draw) -> int:
        """Where a component finds nothing: the next of the walk, or any that the gate skips; where
        all are in flight or retired, the oldest retired one; else one that is in flight already."""
        prompt = self._walk.next()
        if prompt is not None:
            return prompt
        if self._roster.num_free:
            free = self._roster.active[self._roster.free(self._roster.active)]
            return int(draw.rng.choice(free))
        if len(self._roster.retired):
            return self._roster.retired.first
        return self._walk.any()

    def opened(self, prompt: int, version: int) -> None:
        self._note_pending()
        self._num_drawn += 1
        self._version = version
        self._num_seen += not self._last_drawn[prompt]
        self._num_repeated += prompt in self._roster.in_flight
        self._last_drawn[prompt] = self._num_drawn
        self._walk.opened(prompt)
        self._roster.opened(prompt)
        for component in self._components:
            component.opened(prompt, self._num_drawn)

    def observe(self, outcome: Outcome) -> None:
        assert outcome.prompt in self._roster.in_flight, outcome
        assert 0 <= outcome.successes <= outcome.trials > 0, outcome
        self._pending.append(outcome)

    def abandoned(self, prompt: int) -> None:
        assert prompt in self._roster.in_flight, prompt
        self._pending.append(Outcome(prompt=prompt, successes=0.0, trials=0, version=0))

    def _note_pending(self) -> None:
        if not self._pending:
            return
        for outcome in sorted(self._pending, key=attrgetter(*Outcome.__slots__)):
            self._roster.landed(outcome.prompt)
            if outcome.trials:
                self._note(outcome)
            elif self._roster.status(outcome.prompt) is Status.IN_REVIEW:
                self._roster.retire(outcome.prompt, first=True)
        self._pending = []

    def _note(self, outcome: Outcome) -> None:
        prompt, version = outcome.prompt, outcome.version
        self._posterior.add(prompt, outcome.successes, outcome.trials, version)
        tried = 0 if outcome.successes else min(int(self._unsolved[prompt]) + outcome.trials, 255)
        self._unsolved[prompt] = tried
        for listener in (self._greso, *self._components):
            if listener is not None:
                listener.observe(outcome)
        options = self._options.retire
        if not options.threshold:
            return
        trials = self._posterior.prompts.weight(prompt)
        solved = float(self._posterior.mean(prompt, version)) >= options.threshold
        status = self._roster.status(prompt)
        if status is Status.ACTIVE and solved and trials >= options.trials:
            self._roster.retire(prompt)
        elif status is Status.IN_REVIEW:
            self._roster.retire(prompt) if solved else self._roster.activate(prompt)

    def metrics(self) -> dict[str, float]:
        roster = self._roster
        found = {
            "curriculum/epoch": self._num_drawn / roster.num_prompts,
            "curriculum/unseen": roster.num_prompts - self._num_seen,
            "curriculum/in_flight": len(roster.in_flight),
            "curriculum/repeated": self._num_repeated,
            "curriculum/retired": roster.num_prompts - len(roster.active),
            "curriculum/in_review": roster.num_prompts - len(roster.active) - len(roster.retired),
        }
        if self._greso:
            found["curriculum/skipped_frac"] = self._skipped_frac
        found.update(self._recent.metrics())
        means = self._posterior.level_means(self._version)
        wins, losses = self._posterior.levels.at(slice(None), self._version)
        for level, mean, weight in zip(self._levels.values, means, wins + losses, strict=True):
            if weight and len(means) <= _MAX_LEVELS:
                found[f"curriculum/success/level_{level}"] = float(mean)
        for source in (self._greso, *self._components):
            if source is not None:
                found.update(source.metrics())
        return found

    def check_valid(self) -> tuple[bool, str]:
        """Whether the invariants hold, and which does not."""
        if self._num_seen != np.count_nonzero(self._last_drawn):
            return False, f"{self._num_seen} seen by count"
        return self._roster.check_valid()

    def state_dict(self) -> dict[str, Any]:
        seen = np.flatnonzero(self._last_drawn)
        evidence, levels = self._posterior.prompts, self._posterior.levels
        return {
            "num_prompts": self._roster.num_prompts,
            "numbers": [self._num_drawn, self._num_repeated, self._version],
            "seen": seen,
            "last_drawn": self._last_drawn[seen],
            "unsolved": self._unsolved[seen],
            "evidence": evidence.rows(seen),
            "levels": levels.rows(np.arange(len(self._levels.values))),
            "roster": self._roster.state_dict(),
            "walk": self._walk.state_dict(),
            "greso": self._greso.state_dict() if self._greso else {},
            "components": {c.name: c.state_dict() for c in self._components},
            "pending": [list(astuple(outcome)) for outcome in self._pending],
            "recent": {**self._recent.state_dict(), "skipped_frac": self._skipped_frac},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Raises:
            ConfigError: the state is of another number of prompts.
        """
        size = self._roster.num_prompts
        if state["num_prompts"] != size:
            raise ConfigError(
                f"the task must have the {state['num_prompts']} training prompts that the "
                f"curriculum's state is of, got {size}; leave task as it was, or start a new run"
            )
        self._num_drawn, self._num_repeated, self._version = map(int, state["numbers"])
        seen = np.asarray(state["seen"])
        self._num_seen = len(seen)
        self._last_drawn[:] = 0
        self._last_drawn[seen] = state["last_drawn"]
        self._unsolved[:] = 0
        self._unsolved[seen] = state["unsolved"]
        self._posterior.prompts.load(seen, state["evidence"])
        self._posterior.levels.load(np.arange(len(self._levels.values)), state["levels"])
        self._roster.load_state_dict(state["roster"])
        self._walk.load_state_dict(state["walk"])
        if self._greso and state["greso"]:
            self._greso.load_state_dict(state["greso"])
        for component in self._components:
            if state["components"].get(component.name):
                component.load_state_dict(state["components"][component.name])
        self._pending = [Outcome(**dict(zip(Outcome.__slots__, row, strict=True)))
                         for row in state["pending"]]  # fmt: skip
        self._recent.load_state_dict(state["recent"])
        self._skipped_frac = float(state["recent"]["skipped_frac"])
