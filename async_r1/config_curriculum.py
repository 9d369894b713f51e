"""Options of which prompt is leased next (docs/curriculum.md)."""

from dataclasses import dataclass, field
from typing import Literal

from async_r1.schema import opt


@dataclass(frozen=True, kw_only=True)
class CurriculumMix:
    """Weights of the components, one of which is chosen per draw; all 0: uniform alone."""

    uniform: float = opt(0.0, ge=0, doc="every prompt once per epoch")
    kimi_curriculum: float = opt(0.0, ge=0, doc="easy to hard by difficulty label (Kimi k1.5)")
    kimi_priority: float = opt(0.0, ge=0, doc="by 1 - success (Kimi k1.5)")
    learnability: float = opt(0.0, ge=0, doc="by success * (1 - success)")
    thompson: float = opt(0.0, ge=0, doc="Thompson draws nearest to a target (MoPPS)")
    plr: float = opt(0.0, ge=0, doc="by rank of |advantage|, and staleness (level replay)")
    adarft: float = opt(0.0, ge=0, doc="labels nearest to a controlled target (AdaRFT)")
    pools: float = opt(0.0, ge=0, doc="easy, normal and hard prompts by weights")


@dataclass(frozen=True, kw_only=True)
class SuccessConfig:
    """The estimate of a prompt's success: Beta(a, b) of decaying evidence."""

    half_life: float = opt(
        50.0, ge=0, doc="versions in which what was seen loses half of its weight; 0: it never does"
    )
    level_prior: float = opt(
        8.0, ge=0, doc="trials that the success of a prompt's level counts for before its own"
    )
    estimate: Literal["thompson", "mean"] = opt(
        "thompson", doc="what components score: a draw from the posterior, or its mean"
    )


@dataclass(frozen=True, kw_only=True)
class LevelWindow:
    """The labels that train from a version on: a share of the prompts in order of difficulty."""

    version: int = opt(0, ge=0, doc="policy version; between two of them the edges move linearly")
    low: float = opt(0.0, ge=0, lt=1, doc="share of the prompts that are easier than the window")
    high: float = opt(1.0, gt=0, le=1, doc="share of the prompts up to its end")


@dataclass(frozen=True, kw_only=True)
class KimiCurriculumConfig:
    """Curriculum sampling of Kimi k1.5 (section 2.3.4)."""

    windows: list[LevelWindow] = opt(
        [], doc="in order of versions; before the first and after the last nothing moves"
    )


@dataclass(frozen=True, kw_only=True)
class KimiPriorityConfig:
    """Prioritized sampling of Kimi k1.5 (section 2.3.4), and what it leaves open."""

    floor: float = opt(0.01, ge=0, le=1, doc="least score, that of a prompt always solved")
    min_success: float = opt(0.05, ge=0, lt=1, doc="an estimate below it counts as never solved")
    unsolved_trials: int = opt(
        0, ge=0, le=255, doc="trials in a row without success that do too; 0: no number does"
    )
    unsolved_weight: float = opt(0.0, ge=0, le=1, doc="factor of a prompt that is never solved")


@dataclass(frozen=True, kw_only=True)
class LearnabilityConfig:
    """Learnability p(1 - p)."""

    power: float = opt(1.0, gt=0, doc="exponent of p(1 - p)")


@dataclass(frozen=True, kw_only=True)
class ThompsonConfig:
    """MoPPS (arXiv 2507.04632): the prompts whose posterior draws are nearest to the target."""

    target: float = opt(0.5, gt=0, lt=1, doc="success that is wanted")


@dataclass(frozen=True, kw_only=True)
class PlrConfig:
    """Prioritized level replay (arXiv 2010.03934)."""

    beta: float = opt(0.1, gt=0, doc="weights are (1 / rank)^(1 / beta)")
    staleness: float = opt(0.1, ge=0, le=1, doc="rho: share that goes by time since the last visit")
    new: float = opt(0.5, ge=0, le=1, doc="nu: chance of a prompt never seen, while there are any")


@dataclass(frozen=True, kw_only=True)
class AdarftConfig:
    """AdaRFT (arXiv 2504.05520): a target on labels scaled to 0 to 100 follows the reward."""

    initial: float = opt(0.0, ge=0, le=100, doc="first target")
    target_reward: float = opt(0.5, ge=0, le=1, doc="beta: mean reward at which the target rests")
    sensitivity: float = opt(2.0, gt=0, doc="alpha: T += eta * tanh(alpha * (reward - beta))")
    step: float = opt(50.0, gt=0, doc="eta")
    groups: int = opt(32, ge=1, doc="closed groups per update of the target")


@dataclass(frozen=True, kw_only=True)
class PoolsConfig:
    """Easy, normal and hard prompts by estimated success, each kind with a weight."""

    easy_at: float = opt(0.75, gt=0, le=1, doc="success from which a prompt is easy")
    hard_at: float = opt(0.25, ge=0, lt=1, doc="success up to which it is hard")
    easy: float = opt(0.2, ge=0, doc="weight of an easy prompt")
    normal: float = opt(1.0, ge=0, doc="weight of a prompt in between")
    hard: float = opt(0.2, ge=0, doc="weight of a hard prompt")


@dataclass(frozen=True, kw_only=True)
class RetireConfig:
    """Solved prompts leave into a queue, from which some are reviewed."""

    threshold: float = opt(
        0.0, ge=0, le=1, doc="estimated success from which a prompt retires; 0: none does"
    )
    trials: float = opt(16.0, gt=0, doc="weight of evidence that this takes [trials]")
    review: float = opt(0.05, ge=0, le=1, doc="share of draws that review the oldest one retired")


@dataclass(frozen=True, kw_only=True)
class GresoConfig:
    """GRESO (arXiv 2506.02177): prompts without variance are skipped, more often each time."""

    enabled: bool = opt(False, doc="skip a prompt with probability 1 - p^z, z: times in a row")
    target: float = opt(0.25, ge=0, le=1, doc="share of zero-variance groups that p aims at")
    hard_share: float = opt(2 / 3, ge=0, le=1, doc="part of the target that is all wrong")
    initial: float = opt(0.5, gt=0, lt=1, doc="first p, of easy and of hard ones")
    lowest: float = opt(0.05, gt=0, lt=1, doc="least p")
    highest: float = opt(0.95, gt=0, lt=1, doc="greatest p")
    step: float = opt(0.01, ge=0, lt=1, doc="change of p at a time")
    least: float = opt(0.01, gt=0, le=1, doc="least chance of a prompt not to be skipped")
    groups: int = opt(32, ge=1, doc="closed groups per change of p")


@dataclass(frozen=True, kw_only=True)
class CurriculumConfig:
    """Which prompt is leased next."""

    mix: CurriculumMix = field(default_factory=CurriculumMix)
    candidates: int = opt(
        8192, ge=64, doc="prompts that a draw scores: all if there are fewer, else a random choice"
    )
    screen: int = opt(
        0, ge=0, doc="rollouts that a group opens with; it grows if some are right; 0: all at once"
    )
    skip_in_flight: bool = opt(True, doc="no prompt twice at the same time, if there are others")
    success: SuccessConfig = field(default_factory=SuccessConfig)
    kimi_curriculum: KimiCurriculumConfig = field(default_factory=KimiCurriculumConfig)
    kimi_priority: KimiPriorityConfig = field(default_factory=KimiPriorityConfig)
    learnability: LearnabilityConfig = field(default_factory=LearnabilityConfig)
    thompson: ThompsonConfig = field(default_factory=ThompsonConfig)
    plr: PlrConfig = field(default_factory=PlrConfig)
    adarft: AdarftConfig = field(default_factory=AdarftConfig)
    pools: PoolsConfig = field(default_factory=PoolsConfig)
    retire: RetireConfig = field(default_factory=RetireConfig)
    greso: GresoConfig = field(default_factory=GresoConfig)
