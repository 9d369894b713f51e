"""Rules of prompts' templates, and of `eval` and `curate`."""

from collections.abc import Iterator

from async_r1.config import Config


def template(config: Config) -> Iterator[str]:
    """An option of the chat template would be ignored under another."""
    task = config.task
    if task.template == "chat":
        if config.model.init:
            yield (
                f"task.template=chat needs a tokenizer with a chat template, that of model.init="
                f"{config.model.init} has none; use task.template=plain or r1_zero"
            )
        return
    for name in ("system_prompt", "template_options"):
        if getattr(task, name):
            yield (
                f"task.{name} has no effect with task.template={task.template}; leave it out, or "
                f"set task.template=chat"
            )


def room(config: Config) -> Iterator[str]:
    """A completion of full length leaves tokens for the prompt."""
    length = config.model.max_length
    for name, tokens in (
        ("task.max_new_tokens", config.task.max_new_tokens),
        ("curate.guess_tokens", config.curate.guess_tokens),
    ):
        if tokens >= length:
            yield (
                f"{name} must be < model.max_length={length}, got {tokens}: the prompt needs room "
                f"too"
            )


def evaluate(config: Config) -> Iterator[str]:
    options = config.evaluate
    if not options.samples and not options.greedy:
        yield "evaluate.samples is 0 and evaluate.greedy false: nothing would be measured"
    for k in options.k if options.samples else ():
        if not 1 <= k <= options.samples:
            yield (
                f"evaluate.k must hold numbers from 1 to evaluate.samples={options.samples}, got "
                f"{k}; raise evaluate.samples"
            )
    if options.samples and not options.k:
        yield "evaluate.k must hold a number at least, got []; evaluate.samples=0 draws no samples"
    if "" in [word.strip() for word in options.reflection_words]:
        yield "evaluate.reflection_words must hold words, got ''"
