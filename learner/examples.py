"""Examples of supervised fine-tuning as tokens."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from async_r1.errors import ConfigError
from async_r1.templates import PromptForm


@dataclass(frozen=True)
class Examples:
    """Tokenised examples in the layout of `batching.Sequences`."""

    prompt_ids: NDArray[np.int32]
    prompt_lens: NDArray[np.int32]
    token_ids: NDArray[np.int32]
    completion_lens: NDArray[np.int32]


def tokenise(form: PromptForm, pairs: Iterable[tuple[str, str]], *, max_length: int) -> Examples:
    """(question, completion) texts as tokens; every completion ends in the stop token.

    Raises:
        ConfigError: the tokenizer has no stop token, an example exceeds `max_length`, or the
            template leaves no room for the reasoning of a completion.
    """
    tokenizer = form.tokenizer
    stop = tokenizer.eos_token_id
    if stop is None:
        raise ConfigError(f"the tokenizer of {tokenizer.name_or_path} has no stop (eos) token")
    prompts, completions = [], []
    for question, completion in pairs:
        prompts.append(form.token_ids(question))
        completion = form.after_implied(completion)
        # Apart from the prompt, as sampling sees it: no token may span the border.
        completions.append([*tokenizer.encode(completion, add_special_tokens=False), stop])
        length = len(prompts[-1]) + len(completions[-1])
        if length > max_length:
            raise ConfigError(
                f"model.max_length must be >= {length} for this example, got "
                f"{max_length}: {question!r}"
            )
    return Examples(
        prompt_ids=_flat(prompts),
        prompt_lens=np.array([len(ids) for ids in prompts], np.int32),
        token_ids=_flat(completions),
        completion_lens=np.array([len(ids) for ids in completions], np.int32),
    )


def _flat(rows: list[list[int]]) -> NDArray[np.int32]:
    return np.concatenate([np.zeros(0, np.int32), *(np.array(row, np.int32) for row in rows)])
