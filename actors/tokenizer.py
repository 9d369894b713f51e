"""The tokenizer of the policy, checked against the model it is to serve."""

from typing import Any

from actors.stop_tokens import stop_token_ids
from async_r1.config import Config
from async_r1.errors import ConfigError
from async_r1.model_files import check_named_model, check_vocabulary


def load_tokenizer(config: Config) -> tuple[Any, list[int]]:
    """The tokenizer and the tokens that end a completion.

    Raises:
        ConfigError: there is no such model, or its parts do not fit each other.
    """
    from transformers import AutoConfig, AutoTokenizer

    path = config.model.path
    check_named_model(path, config.task)
    try:
        vocab_size = AutoConfig.from_pretrained(path).get_text_config().vocab_size
        stops = stop_token_ids(path)
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"the tokenizer of model.path {path} does not load: {reason}") from error
    # Also of those without a tokenizer.json, which is all that the launcher can read.
    check_vocabulary(max(tokenizer.get_vocab().values()), vocab_size, path)
    check_vocabulary(max(stops), vocab_size, path)
    return tokenizer, stops
