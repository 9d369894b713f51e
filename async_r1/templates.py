"""The prompt that goes around a question, and the form that it asks of the completion."""

import re

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


def render(template: str, question: str) -> str:
    """The text of the prompt; the completion begins right after it, with `<think>`."""
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
