"""From a configuration to its rewards."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from async_r1.config import Config
from async_r1.config_task import RewardConfig, TaskConfig
from async_r1.errors import ConfigError
from async_r1.load_object import resolve_spec
from async_r1.rewards.function import UserFunction, load_function
from async_r1.rewards.language import language_consistency, scripts_of
from async_r1.rewards.overlong import overlong_punishment
from async_r1.rewards.repetition import repetition_penalty
from async_r1.rewards.weighted import Rewards, RewardTerm, TaskReward, unless_truncated
from async_r1.tasks.protocol import Completion, Prompt, Task
from async_r1.templates import is_well_formed


def make_rewards(cfg: RewardConfig, task_cfg: TaskConfig, task: Task | None) -> Rewards:
    """The rewards of a configuration.

    Accuracy and format are scored also with weight 0, for the metrics (R1 report, section 2.2.2);
    the other terms only where they have a weight. `task` may be None if `reward.function` is set.

    Raises:
        ConfigError: the function or the language is not there.
    """
    task_reward: TaskReward
    if cfg.function:
        task_reward = UserFunction(cfg.function, cfg.function_options, task_cfg.name)
    else:
        assert task is not None
        task_reward = _answer_check(task)
    terms: dict[str, RewardTerm] = {
        "format": unless_truncated(lambda _, completion: float(is_well_formed(completion.text)))
    }
    weights = {"accuracy": cfg.accuracy, "format": cfg.format}
    for name, (weight, term) in _shaping(cfg, task_cfg).items():
        if weight:
            terms[name], weights[name] = term, weight
    return Rewards(task_reward, terms, weights)


def is_isolated(cfg: RewardConfig, task: Task) -> bool:
    """Whether scoring may hang or crash, so that it needs a process that can be killed."""
    return bool(cfg.function) or bool(getattr(task, "isolated", False))


def check_rewards(config: Config) -> Config:
    """Load what the reward section names, once, before anything starts.

    Returns:
        The configuration with an absolute path in `reward.function`, for roles that run elsewhere.

    Raises:
        ConfigError: `reward.function` cannot be imported or called, or a value fits no other.
    """
    reward, longest = config.reward, config.task.max_new_tokens
    scripts_of(reward.target_language)
    if reward.overlong_cache > longest:
        raise ConfigError(
            f"reward.overlong_cache must be <= task.max_new_tokens={longest}, got "
            f"{reward.overlong_cache}"
        )
    if not reward.function:
        if reward.function_options:
            raise ConfigError("reward.function_options has no effect without reward.function")
        return config
    load_function(reward.function, reward.function_options)
    spec = resolve_spec(reward.function)
    return replace(config, reward=replace(reward, function=spec))


def _answer_check(task: Task) -> TaskReward:
    def check(prompt: Prompt, completion: Completion) -> tuple[float, Mapping[str, Any]]:
        return 0.0 if completion.truncated else task.score(prompt, completion), {}

    return check


def _shaping(cfg: RewardConfig, task_cfg: TaskConfig) -> dict[str, tuple[float, RewardTerm]]:
    longest = task_cfg.max_new_tokens
    cache = cfg.overlong_cache or max(1, longest // 5)

    def language(_: Prompt, completion: Completion) -> float:
        return language_consistency(completion.text, cfg.target_language)

    def overlong(_: Prompt, completion: Completion) -> float:
        # The end of the context may cut a rollout before task.max_new_tokens does.
        tokens = longest if completion.truncated else completion.num_tokens
        return overlong_punishment(tokens, max_tokens=longest, cache_tokens=cache)

    def repetition(_: Prompt, completion: Completion) -> float:
        return repetition_penalty(completion.text, cfg.repetition_ngram)

    return {
        "language": (cfg.language, unless_truncated(language)),
        "overlong": (cfg.overlong, overlong),
        "repetition": (cfg.repetition, repetition),
    }
