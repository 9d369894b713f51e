"""The curricula with a made-up learner, in seconds: what each draws, and what that gives it.

    .venv/bin/python benchmarks/curriculum_toy.py [--prompts 300] [--seeds 5] [--json]

A third of the prompts is solved at first, a third learnable, a third out of reach. Prompt i is
solved with probability sigmoid(2 (skill - d_i)), d_i normal around -3, 0.5 and 4.5; the skill grows
by 0.025 times the sum of s (1 - s) over the 8 groups of a version, s being a group's share of right
ones among 8; the curriculum hears of a group four versions later. It shows that a curriculum does
what it says, not that a model would learn more from it.
"""

import statistics
import sys
from typing import Any

import common
import numpy as np

from async_r1.compose import compose
from buffer.curriculum.mixture import Mixture
from buffer.curriculum.protocol import Outcome

GROUPS, ROLLOUTS, LATE = 8, 8, 4
SETTINGS = {
    "uniform": ["curriculum=uniform"],
    "kimi_curriculum": ["curriculum=kimi_curriculum"],
    "kimi_priority": ["curriculum=kimi_priority"],
    "learnability": ["curriculum=learnability"],
    "thompson": ["curriculum=thompson"],
    "plr": ["curriculum=plr"],
    "adarft": ["curriculum=adarft"],
    "pools": ["curriculum=pools"],
    "mixture": ["curriculum=mixture"],
    "mixture, flat prior": ["curriculum=mixture", "curriculum.success.level_prior=0"],
    "mixture, retire": ["curriculum=mixture", "curriculum.retire.threshold=0.9"],
    "mixture, greso": ["curriculum=mixture", "curriculum.greso.enabled=true"],
    "uniform, greso": ["curriculum=uniform", "curriculum.greso.enabled=true"],
}


def main() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--versions", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    if args.quick:
        args.versions, args.seeds = 10, 2
    facts = common.conditions(prompts=args.prompts, versions=args.versions, seeds=args.seeds)
    common.print_conditions(facts)
    rows = {}
    for name, overrides in SETTINGS.items():
        options = compose(overrides).curriculum
        runs = [learn(options, args.prompts, args.versions, seed) for seed in range(args.seeds)]
        rows[name] = {key: statistics.fmean(run[key] for run in runs) for key in runs[0]}
        rows[name]["last_std"] = statistics.pstdev(run["last_success"] for run in runs)
    common.print_table(
        ["curriculum", "zero variance", "success at last", "its std", "mean over versions"],
        [
            [name, r["zero_variance"], r["last_success"], r["last_std"], r["mean_success"]]
            for name, r in rows.items()
        ],
    )
    return common.finish(args, {"settings": rows, **facts})


def learn(options: Any, size: int, versions: int, seed: int) -> dict[str, float]:
    """One made-up run."""
    rng = np.random.default_rng(seed)
    levels = np.arange(size) % 3
    difficulty = np.asarray([-3.0, 0.5, 4.5])[levels]
    difficulty += np.asarray([0.5, 0.9, 0.9])[levels] * rng.standard_normal(size)
    mixture = Mixture(options, levels, seed)
    skill, without_variance, successes = 0.0, 0, []
    late: list[Outcome] = []
    for version in range(versions):
        informative = 0.0
        for prompt in mixture.sample(GROUPS, version).tolist():
            right = int(rng.binomial(ROLLOUTS, _solved(skill - difficulty[prompt])))
            share = right / ROLLOUTS
            without_variance += right in (0, ROLLOUTS)
            informative += share * (1 - share)
            late.append(
                Outcome(
                    prompt=prompt,
                    successes=right,
                    trials=ROLLOUTS,
                    version=version,
                    zero_variance=right in (0, ROLLOUTS),
                    abs_advantage=2 * share * (1 - share),
                    reward=share,
                )
            )
        skill += 0.025 * informative
        while len(late) > LATE * GROUPS:
            mixture.observe(late.pop(0))
        successes.append(float(_solved(skill - difficulty).mean()))
    return {
        "zero_variance": without_variance / (versions * GROUPS),
        "last_success": successes[-1],
        "mean_success": statistics.fmean(successes),
    }


def _solved(ahead: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-2.0 * ahead))


if __name__ == "__main__":
    sys.exit(main())
