"""A reward function of the user's own, called as verl calls its `custom_reward_function`.

    def score(data_source, solution_str, ground_truth, extra_info, **options):
        return float(solution_str.strip().endswith(ground_truth))

It returns a number or a bool, or a mapping with "score"; other numbers of the mapping are recorded
beside the terms, under their names. `async def` is awaited.
"""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from async_r1.errors import ConfigError
from async_r1.load_object import load_object
from async_r1.tasks.protocol import Completion, Prompt

OPTION = "reward.function"
_ARGUMENTS = ("data_source", "solution_str", "ground_truth", "extra_info")


class UserFunction:
    """A task reward that a function in a file of the user's decides."""

    def __init__(self, spec: str, options: Mapping[str, Any], data_source: str) -> None:
        """
        Raises:
            ConfigError: the file or the function is not there, or does not take the arguments.
        """
        self._function = load_function(spec, options)
        self._options = dict(options)
        self._data_source = data_source

    def __call__(self, prompt: Prompt, completion: Completion) -> tuple[float, Mapping[str, Any]]:
        """The score and the other numbers that the function returned.

        Raises:
            TypeError: it returned neither a number nor a mapping with "score".
        """
        info = {
            **prompt.extra,
            "prompt_id": prompt.prompt_id,
            "prompt": prompt.text,
            "level": prompt.level,
            "num_tokens": completion.num_tokens,
            "truncated": completion.truncated,
        }
        result = self._function(
            data_source=self._data_source,
            solution_str=completion.text,
            ground_truth=prompt.answer,
            extra_info=info,
            **self._options,
        )
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
        if not isinstance(result, Mapping):
            return result, {}
        if "score" not in result:
            raise TypeError(f"{OPTION} returned a mapping without 'score': {list(result)}")
        numbers = (bool, int, float, np.generic)
        extras = {
            str(name): value
            for name, value in result.items()
            if name != "score" and isinstance(value, numbers)
        }
        return result["score"], extras


def load_function(spec: str, options: Mapping[str, Any]) -> Callable[..., Any]:
    """The function that `reward.function` names.

    Raises:
        ConfigError: the file or the function is not there, or does not take the arguments.
    """
    function: Callable[..., Any] = load_object(spec, option=OPTION)
    if not callable(function):
        raise ConfigError(f"{OPTION}={spec} must be a function, got {type(function).__name__}")
    if taken := set(_ARGUMENTS) & options.keys():
        raise ConfigError(f"reward.function_options must not hold {min(taken)!r}: it is given")
    try:
        inspect.signature(function).bind(**dict.fromkeys(_ARGUMENTS), **options)
    except TypeError as error:
        raise ConfigError(
            f"{OPTION}={spec} must take the keywords {', '.join([*_ARGUMENTS, *options])}: {error}"
        ) from None
    except ValueError:  # a builtin without a signature
        pass
    return function
