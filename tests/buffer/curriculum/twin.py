"""A curriculum's bookkeeping the slow way: dictionaries, lists, and every group ever seen."""

from collections import Counter

from buffer.curriculum import Outcome


class Twin:
    """Follows what was opened and what came of it; chooses nothing."""

    def __init__(self, num_prompts: int, half_life: float, threshold: float, trials: float) -> None:
        self.num_prompts = num_prompts
        self._half_life, self._threshold, self._trials = half_life, threshold, trials
        self.seen: list[Outcome] = []
        self.in_flight: Counter[int] = Counter()
        self.retired: list[int] = []
        self.in_review: set[int] = set()
        self.last_drawn: dict[int, int] = {}
        self.unsolved: Counter[int] = Counter()
        self._pending: list[tuple[int, Outcome | None]] = []
        self._draws = 0

    @property
    def free(self) -> set[int]:
        """Prompts that may be drawn."""
        hidden = self.in_flight.keys() | set(self.retired) | self.in_review
        return set(range(self.num_prompts)) - hidden

    def evidence(self, prompt: int, now: int) -> tuple[float, float]:
        """Decayed successes and failures; nothing is newer than the newest."""
        known = [outcome for outcome in self.seen if outcome.prompt == prompt]
        now = max([now, *(outcome.version for outcome in known)])
        wins = losses = 0.0
        for outcome in known:
            weight = 2.0 ** ((outcome.version - now) / self._half_life)
            wins += weight * outcome.successes
            losses += weight * (outcome.trials - outcome.successes)
        return wins, losses

    def note(self) -> None:
        """What closed since the last draw, by prompt."""
        for prompt, outcome in sorted(self._pending, key=lambda closed: closed[0]):
            self.in_flight[prompt] -= 1
            if not self.in_flight[prompt]:
                del self.in_flight[prompt]
            if outcome is None:
                if prompt in self.in_review:
                    self.in_review.remove(prompt)
                    self.retired.insert(0, prompt)
                continue
            self.seen.append(outcome)
            tried = self.unsolved[prompt] + outcome.trials
            self.unsolved[prompt] = 0 if outcome.successes else min(tried, 255)
            wins, losses = self.evidence(prompt, outcome.version)
            solved = (1 + wins) / (2 + wins + losses) >= self._threshold
            if prompt in self.in_review:
                self.in_review.remove(prompt)
                if solved:
                    self.retired.append(prompt)
            elif prompt not in self.retired and solved and wins + losses >= self._trials:
                self.retired.append(prompt)
        self._pending = []

    def opened(self, prompt: int) -> None:
        self.note()
        self._draws += 1
        self.last_drawn[prompt] = self._draws
        if prompt in self.retired:
            assert self.retired[0] == prompt, "not the oldest"
            self.retired.pop(0)
            self.in_review.add(prompt)
        self.in_flight[prompt] += 1

    def closed(self, prompt: int, outcome: Outcome | None) -> None:
        self._pending.append((prompt, outcome))
