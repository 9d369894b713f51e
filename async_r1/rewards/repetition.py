"""Penalty on repeated n-grams of words (Yeo et al., arXiv 2502.03373)."""


def repetition_penalty(text: str, ngram: int) -> float:
    """In (-1, 0]: minus the share of word n-grams that are repetitions.

        R(y) = -(1 - |distinct n-grams| / |n-grams|)

    Words are separated by white space, their case is ignored; a text of fewer than `ngram` words
    has no penalty.
    """
    words = text.lower().split()
    ngrams = [tuple(words[i : i + ngram]) for i in range(len(words) - ngram + 1)]
    if not ngrams:
        return 0.0
    return len(set(ngrams)) / len(ngrams) - 1.0
