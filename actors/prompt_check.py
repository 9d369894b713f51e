"""Prompts that could never be answered are named before sampling begins."""

from async_r1.config import Config
from async_r1.errors import ConfigError
from async_r1.tasks import Prompt, Split, Task, some_prompts
from async_r1.templates import PromptForm

MAX_CHECKED = 20_000  # prompts of a split; a longer one further on is named when it is leased
_MAX_LEAD = 1  # tokens before every text


def room_for(config: Config, prompt_id: str, num_tokens: int) -> int:
    """Tokens that a completion may have after a prompt of `num_tokens`.

    Raises:
        ConfigError: there is no room for any.
    """
    limit = config.model.max_length
    if num_tokens >= limit:
        raise ConfigError(
            f"model.max_length must be > {num_tokens}, the length of prompt {prompt_id} under "
            f"task.template={config.task.template}, got {limit}"
        )
    return limit - num_tokens


def check_prompts(config: Config, task: Task, form: PromptForm, *splits: Split) -> None:
    """Refuse prompts that leave no room for a completion.

    Raises:
        ConfigError: naming the longest of them, its length, model.max_length and the template.
    """
    limit = config.model.max_length
    prompts = (
        prompt for split in splits for prompt in some_prompts(task.prompts(split), MAX_CHECKED)
    )
    lengths = ((_length(form, prompt, limit), prompt.prompt_id) for prompt in prompts)
    longest, prompt_id = max(lengths, default=(0, ""))
    room_for(config, prompt_id, longest)


def _length(form: PromptForm, prompt: Prompt, limit: int) -> int:
    """Tokens; 0 for a text so short that it need not be tokenised: a token is a byte at least."""
    if len(form.text(prompt.text).encode()) < limit - _MAX_LEAD:
        return 0
    return len(form.token_ids(prompt.text))
