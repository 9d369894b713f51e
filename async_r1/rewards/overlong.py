"""Soft overlong punishment (DAPO, arXiv 2503.14476, section 3.4)."""


def overlong_punishment(num_tokens: int, *, max_tokens: int, cache_tokens: int) -> float:
    """In [-1, 0]: nothing up to `max_tokens - cache_tokens`, then linear down to -1 (equation 13).

        R(y) = 0                                      if |y| <= L_max - L_cache
        R(y) = ((L_max - L_cache) - |y|) / L_cache    if L_max - L_cache < |y| <= L_max
        R(y) = -1                                     if L_max < |y|

    Args:
        num_tokens: |y|, sampled tokens.
        max_tokens: L_max.
        cache_tokens: L_cache, at least 1.
    """
    free = max_tokens - cache_tokens
    if num_tokens <= free:
        return 0.0
    if num_tokens <= max_tokens:
        return (free - num_tokens) / cache_tokens
    return -1.0
