"""The prompt that goes around a question, and the form that it asks of the completion."""

import re
from typing import Any

from async_r1.config_task import TaskConfig
from async_r1.errors import ConfigError
from async_r1.schema import nearest

# R1 report (arXiv 2501.12948), table 1.
_R1_ZERO = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant "
    "solves it. The assistant first thinks about the reasoning process in the mind and then "
    "provides the user with the answer. The reasoning process and answer are enclosed within "
    "<think> </think> and <answer> </answer> tags, respectively, i.e., <think> reasoning process "
    "here </think> <answer> answer here </answer>. User: {question}. Assistant:"
)

TEMPLATES = {
    "r1_zero": _R1_ZERO,
    "plain": "{question}\n",  # every character costs the nano model a token
}

_TAG = re.compile(r"</?(?:think|answer)>")
_TAGS_IN_ORDER = ["<think>", "</think>", "<answer>", "</answer>"]
_FORM = re.compile(r"\s*<think>.*</think>\s*<answer>.*</answer>\s*", re.DOTALL)

# How chat templates end for models that think: DeepSeek-R1's distilled ones open the block; Qwen3
# with enable_thinking=false also closes it.
_IMPLIED = re.compile(r"<think>\s*(?:</think>\s*)?$")
_OPENING = re.compile(r"^\s*<think>")
_EMPTY_BLOCK = re.compile(r"\s*<think>\s*</think>\s*")
_OWN_OPTIONS = ("add_generation_prompt", "continue_final_message", "messages", "tokenize")
_GENERATION_MARK = re.compile(r"{%-?\s*(end)?generation\s*-?%}")  # an extension of transformers
_GIVEN = re.compile(r"messages|add_generation_prompt|raise_exception|strftime_now|\w+_tokens?")


class PromptForm:
    """How questions become prompts for one tokenizer: the one place where they do.

    `template=chat` is the tokenizer's own chat template, with `task.system_prompt` as its system
    message and `task.template_options` as its arguments, up to where the assistant speaks.

    Attributes:
        implied_prefix: what the template itself writes of every completion, such as `<think>`.
    """

    def __init__(self, task: TaskConfig, tokenizer: Any) -> None:
        """
        Args:
            tokenizer: of Hugging Face transformers.

        Raises:
            ConfigError: the tokenizer has no chat template, or its template refuses the messages
                or knows nothing of an option.
        """
        self.template = task.template
        self.tokenizer = tokenizer
        self._system_prompt = task.system_prompt
        self._options = dict(task.template_options)
        self._lead: list[int] = []
        self.implied_prefix = ""
        if task.template == "chat":
            check_template_options(chat_template(tokenizer), self._options)
            self.implied_prefix = implied_prefix(self.text("?"))
        else:
            bos = tokenizer.bos_token_id
            # Of a tokenizer that puts a token before every text (Llama's): the model expects it.
            self._lead = [bos] if bos is not None and tokenizer.encode("")[:1] == [bos] else []

    def text(self, question: str) -> str:
        """The prompt without special tokens of the tokenizer that stand before every text.

        Raises:
            ConfigError: the chat template refuses the messages.
        """
        if self.template != "chat":
            return render(self.template, question)
        messages = [{"role": "user", "content": question}]
        if self._system_prompt:
            messages.insert(0, {"role": "system", "content": self._system_prompt})
        from jinja2 import TemplateError

        try:
            rendered: str = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, **self._options
            )
        except TemplateError as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"task.template=chat: the tokenizer's chat template refuses: {reason}"
            ) from None
        return rendered

    def token_ids(self, question: str, prefix: str = "") -> list[int]:
        """Tokens that the policy is given [P]; the completion is to begin with `prefix`."""
        text = self.text(question) + self.after_implied(prefix)
        return [*self._lead, *self.tokenizer.encode(text, add_special_tokens=False)]

    def forced(self, prefix: str = "") -> str:
        """What of a completion's text the policy did not write itself."""
        return self.implied_prefix + self.after_implied(prefix)

    def after_implied(self, completion: str) -> str:
        """What is left to write of a completion (or its beginning) after the implied prefix.

        Raises:
            ConfigError: it reasons, and the template has closed the block already.
        """
        implied = self.implied_prefix
        if completion.startswith(implied):
            return completion.removeprefix(implied)
        if "</think>" not in implied:
            return _OPENING.sub("", completion)
        block = _EMPTY_BLOCK.match(completion)
        if block is None and "<think>" in completion:
            raise ConfigError(
                f"task.template=chat ends in {implied!r} and leaves no room to reason, which "
                f"{completion[:40]!r} does; see task.template_options"
            )
        return completion[block.end() :] if block else completion


def chat_template(tokenizer: Any) -> str:
    """The Jinja source of a tokenizer's chat template.

    Raises:
        ConfigError: it has none.
    """
    try:
        source: str = tokenizer.get_chat_template()
    except ValueError:
        raise ConfigError(no_chat_template(tokenizer.name_or_path)) from None
    return source


def no_chat_template(where: str) -> str:
    """What is wrong, and the ways out."""
    return (
        f"task.template=chat needs a tokenizer with a chat template, {where or 'this one'} has "
        f"none; use task.template=r1_zero or plain, or an instruction-tuned model"
    )


def check_template_options(source: str, options: dict[str, Any]) -> None:
    """Jinja ignores an argument that a template never reads; here it is a mistake.

    Raises:
        ConfigError: an option that the template does not read, or that is not the user's to set.
    """
    from jinja2 import Environment, TemplateSyntaxError, meta

    environment = Environment(extensions=["jinja2.ext.loopcontrols"])
    try:
        read = meta.find_undeclared_variables(environment.parse(_GENERATION_MARK.sub("", source)))
    except TemplateSyntaxError as error:
        raise ConfigError(f"the tokenizer's chat template is not valid: {error.message}") from None
    known = sorted(name for name in read if not _GIVEN.fullmatch(name))
    for name in options:
        if name in _OWN_OPTIONS:
            raise ConfigError(f"task.template_options.{name} is not yours to set")
        if name not in known:
            match = nearest(name, known)
            hint = (
                f"; did you mean {match}?" if match else f"; it reads {', '.join(known) or 'none'}"
            )
            raise ConfigError(f"the chat template knows no task.template_options.{name}{hint}")


def implied_prefix(rendered: str) -> str:
    """The part at the end of a rendered chat prompt that belongs to the completion.

    Example: "<think>\\n" for "...<|Assistant|><think>\\n"; "" for most.
    """
    found = _IMPLIED.search(rendered)
    return found.group() if found else ""


def render(template: str, question: str) -> str:
    """The text of a prompt under a template of our own; the completion begins right after it."""
    if template not in TEMPLATES:
        raise ValueError(f"template must be one of {', '.join(TEMPLATES)}, got {template!r}")
    return TEMPLATES[template].replace("{question}", question)


def extract_answer(completion: str) -> str | None:
    """The stripped text of the answer block; None unless just one block follows the thinking."""
    _, *rest = completion.split("</think>")
    if len(rest) != 1 or _TAG.findall(rest[0]) != ["<answer>", "</answer>"]:
        return None
    return rest[0].partition("<answer>")[2].partition("</answer>")[0].strip()


def is_well_formed(completion: str) -> bool:
    """One think block, then one answer block, and nothing but white space around them."""
    return bool(_FORM.fullmatch(completion)) and _TAG.findall(completion) == _TAGS_IN_ORDER
