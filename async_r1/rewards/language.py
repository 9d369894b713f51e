"""Language consistency of the chain of thought (R1 report, arXiv 2501.12948, section 2.3.2).

Words are told apart by their script. That separates English from Chinese or Russian, the mixing
that the report saw, but not languages of one script: English from French, Russian from Ukrainian,
Chinese from Japanese written in kanji alone.
"""

import re

import regex

from async_r1.errors import ConfigError
from async_r1.schema import nearest

_OF_SCRIPT = {
    "Latin": "en de fr es it pt nl sv da no fi pl cs sk sl hr hu ro tr vi id ms sw et lv lt ca",
    "Cyrillic": "ru uk bg sr mk be kk mn",
    "Arabic": "ar fa ur",
    "Devanagari": "hi mr ne",
    "Bengali": "bn",
    "Tamil": "ta",
    "Telugu": "te",
    "Greek": "el",
    "Hebrew": "he",
    "Armenian": "hy",
    "Georgian": "ka",
    "Ethiopic": "am",
    "Hangul": "ko",
    "Thai": "th",
    "Khmer": "km",
    "Lao": "lo",
    "Myanmar": "my",
    "Han": "zh",
}
SCRIPTS = {
    **{code: (script,) for script, codes in _OF_SCRIPT.items() for code in codes.split()},
    "ja": ("Han", "Hiragana", "Katakana"),
}

# Written without spaces: every character is a word.
_DENSE = r"\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Khmer}"
_DENSE += r"\p{Script=Lao}\p{Script=Myanmar}"
# Single letters are names of variables more often than words.
_WORD = regex.compile(
    rf"(?V1)[\p{{L}}&&[{_DENSE}]]|[\p{{L}}--[{_DENSE}]](?:[\p{{L}}\p{{M}}--[{_DENSE}]]|['\u2019])+"
)
_NO_WORDS = re.compile(
    r"\$\$.*?\$\$|\$[^$\n]*\$|\\\(.*?\\\)|\\\[.*?\\\]"  # formulas
    r"|\\begin\{(\w+\*?)\}.*?\\end\{\1\}|\\[A-Za-z]+"  # environments, commands
    r"|```.*?```|</?(?:think|answer)>",
    re.DOTALL,
)


def scripts_of(language: str) -> tuple[str, ...]:
    """The scripts of a language.

    Raises:
        ConfigError: it is no language that this module knows.
    """
    if language not in SCRIPTS:
        match = nearest(language, SCRIPTS)
        hint = f"did you mean {match}?" if match else f"known: {', '.join(sorted(SCRIPTS))}"
        raise ConfigError(f"reward.target_language has no value {language!r}; {hint}")
    return SCRIPTS[language]


def language_consistency(text: str, language: str) -> float:
    """The share of the chain of thought's words that are in the target language, in [0, 1].

        r = |words in the target language| / |words|

    The chain of thought is what stands before `</think>`, or all. Formulas, LaTeX, code and
    numbers are no words. Without any word the reward is 0: silence must not pay.
    """
    thought = text.partition("</think>")[0]
    words = _WORD.findall(_NO_WORDS.sub(" ", thought))
    if not words:
        return 0.0
    own = regex.compile("|".join(rf"\p{{Script={script}}}" for script in scripts_of(language)))
    return sum(own.match(word) is not None for word in words) / len(words)
