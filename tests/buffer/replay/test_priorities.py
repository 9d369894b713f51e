"""Factors, age and surprise against their formulas."""

import math
from typing import Any

import numpy as np
import pytest

from async_r1.schema import build
from buffer.groups import ClosedGroup
from buffer.replay.factors import FACTORS, known_product
from buffer.replay.priorities import Priorities
from buffer.replay.prioritized import Prioritized
from tests.buffer.fakes import closed_group, make_config


def make(updates: int = 100, per_publish: int = 1, **options: Any) -> Priorities:
    learner = {"num_updates": updates, "updates_per_publish": per_publish}
    return Priorities(
        make_config(buffer={"priority": options, "sampler": "prioritized"}, learner=learner)
    )


def test_every_factor_of_a_group_and_of_a_member() -> None:
    group = closed_group(0, [1.0, 0.0, 0.0, 0.0], versions=[[3], [4, 4, 4, 4], [5], [6]])
    member = group.of_member(1)
    want: dict[str, tuple[Any, Any]] = {
        "constant": (1.0, 1.0),
        "abs_advantage": ((0.75 + 3 * 0.25) / 4, 0.25),
        "length_corrected_advantage": ((0.75 + 0.25 / 2 + 2 * 0.25) / 4, 0.25 / 2),
        "learnability": (0.25 * 0.75, 0.25 * 0.75),  # of the group, for a member, too
        "recency": (1 / (1 + 8 - 3), 1 / (1 + 8 - 4)),
        "surprise": (None, None),
    }
    assert want.keys() == FACTORS.keys()
    for name, values in want.items():
        assert (FACTORS[name](group, 8), FACTORS[name](member, 8)) == pytest.approx(values), name
    names = ["abs_advantage", "surprise", "learnability"]
    assert known_product(names, group, 8) == pytest.approx(0.375 * 0.1875)


def test_config_names_are_the_registry() -> None:
    for name in FACTORS:
        assert make(factors=[name])
    with pytest.raises(ValueError, match="must be one of 'constant'"):
        make(factors=["td_error"])
    assert build(type(make_config().buffer.priority), {}).factors == ["abs_advantage"]


def item(totals: list[float], version: float) -> ClosedGroup:
    return closed_group(0, totals, opened_version=int(version))


def test_age_decay_without_refresh_is_the_refreshed_computation() -> None:
    """The shares of a draw at any version, from keys written at insertion alone, against
    p * exp(-age / tau), worked out for every item at that version."""
    priorities = make(factors=["abs_advantage"], alpha=0.6, decay_versions=4.0, epsilon=0.02)
    sampler, born = Prioritized(), dict[int, tuple[int, float]]()
    rng = np.random.default_rng(0)
    for version in range(400):
        totals = rng.choice([0.0, 0.5, 1.0, 3.0], 3).tolist()
        group = item(totals, version)
        sampler.insert(version, priorities.insert(version, group, version))
        born[version] = (version, float(np.abs(group.advantages).mean()))
        if len(born) > 25:
            gone = int(rng.choice(list(born)))
            sampler.remove(gone)
            del born[gone]
        if version % 20 == 0:
            ids = sampler.state_dict()["item_ids"].tolist()
            worth = [
                ((born[i][1] + 0.02) * math.exp(-(version - born[i][0]) / 4.0)) ** 0.6 for i in ids
            ]
            want = np.asarray(worth) / sum(worth)
            assert sampler.probabilities() == pytest.approx(want, rel=1e-6)


def test_age_goes_by_the_mean_version_of_the_tokens_that_the_policy_sampled() -> None:
    priorities = make(factors=["constant"], alpha=1.0, decay_versions=2.0, epsilon=1e-9)
    group = closed_group(0, [1.0, 0.0], versions=[[0, 0, 6], [2, 2, 2]])
    assert priorities.insert(0, group, 6) == pytest.approx((12 / 6) / 2.0, abs=1e-6)


def test_without_decay_age_does_not_matter() -> None:
    priorities = make(factors=["abs_advantage"], alpha=0.5, decay_versions=0.0, epsilon=0.1)
    assert priorities.insert(0, item([1.0, 0.0], 70), 70) == pytest.approx(0.5 * math.log(0.6))


def test_surprise_is_the_largest_known_until_it_is_known() -> None:
    priorities = make(factors=["surprise"], alpha=1.0, decay_versions=0.0, epsilon=0.01)
    for item_id in (0, 1, 2):
        priorities.insert(item_id, item([1.0, 0.0], 0), 0)
    assert priorities.priority(0) == pytest.approx(1.01)  # nothing is known yet
    assert priorities.surprised([0, 9, 1], [0.2, 7.0, 0.5]) == [0, 1]  # 9 left before
    assert priorities.priority(0) == pytest.approx(0.21)
    assert priorities.priority(2) == pytest.approx(7.01)
    assert priorities.log_weight(1) == pytest.approx(math.log(0.51))
    priorities.forget(1)
    assert priorities.check_valid({0, 2}) == (True, "")
    assert priorities.check_valid({0, 1, 2})[0] is False


def test_a_known_factor_has_its_own_value_while_another_is_unknown() -> None:
    priorities = make(factors=["surprise", "abs_advantage"], alpha=1.0, decay_versions=0.0)
    priorities.insert(0, item([1.0, 0.0], 0), 0)
    priorities.surprised([5], [3.0])
    assert priorities.priority(0) == pytest.approx(3.0 * 0.5 + 0.01)


def test_beta_is_annealed_over_the_versions_of_the_run() -> None:
    priorities = make(updates=40, per_publish=4, beta0=0.4, beta1=1.0)
    assert [priorities.beta(v) for v in (0, 5, 10, 50)] == pytest.approx([0.4, 0.7, 1.0, 1.0])
    assert make(beta0=0.2, beta1=0.6, beta_versions=4).beta(1) == pytest.approx(0.3)


def test_state_round_trips() -> None:
    priorities = make(factors=["surprise", "learnability"])
    for item_id in range(4):
        priorities.insert(item_id, item([1.0, 0.0], item_id), item_id)
    priorities.surprised([1, 2], [0.3, 0.9])
    restored = make(factors=["surprise", "learnability"])
    restored.load_state_dict(priorities.state_dict())
    for item_id in range(4):
        assert restored.log_weight(item_id) == priorities.log_weight(item_id)
    restored.insert(7, item([1.0, 0.0], 0), 0)
    assert restored.priority(7) == pytest.approx(0.9 * 0.25 + 0.01)
