"""How often completions reflect: words such as "wait" (DeepSeek-R1, Nature 2025, on R1-Zero)."""

import re
from collections.abc import Iterable, Sequence
from typing import Any


def reflection(texts: Iterable[str], words: Sequence[str]) -> dict[str, Any]:
    """Counts of whole words, whatever their case.

    Returns:
        `share`: of the texts with any of the words; `per_text`: occurrences in a text, on average;
        `words`: word -> the same two of it alone. Both None if there are no texts.

    Example: of the texts "Wait, but wait." and "fine" under ["wait", "but"] the share is 0.5, and
    1.5 occurrences stand in a text.
    """
    counts = [_count(text, words) for text in texts]
    of_each = {
        word: _shares([count[index] for count in counts]) for index, word in enumerate(words)
    }
    return {**_shares([sum(count) for count in counts]), "words": of_each}


def _count(text: str, words: Sequence[str]) -> list[int]:
    folded = text.casefold()
    return [
        len(re.findall(rf"(?<!\w){re.escape(word.casefold())}(?!\w)", folded)) for word in words
    ]


def _shares(counts: list[int]) -> dict[str, float | None]:
    if not counts:
        return {"share": None, "per_text": None}
    return {
        "share": sum(count > 0 for count in counts) / len(counts),
        "per_text": sum(counts) / len(counts),
    }
