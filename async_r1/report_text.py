"""Which characters of a rollout's text which of its tokens wrote."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from async_r1.view import RunView

Decode = Callable[[Sequence[int]], str]


def decoder(view: RunView) -> Decode | None:
    """The run's tokenizer as a function; None if the run and this machine no longer have it.

    It is looked for in the newest checkpoint, at `model.path`, and in the local cache of models:
    nothing is fetched.
    """
    from tokenizers import Tokenizer

    for path in _places(view):
        if path.is_file():
            try:
                return _decode_with(Tokenizer.from_file(str(path)))
            except Exception:  # the library raises plain Exception for a file it cannot read
                continue
    return None


def pieces(
    text: str, token_ids: Sequence[int], cuts: Sequence[int], decode: Decode
) -> list[str] | None:
    """Cut a text at token offsets; the pieces put together are the text.

    A character whose bytes several tokens wrote belongs to the token that completed it. A stop
    token at the end may be absent from the text.

    Args:
        cuts: ascending offsets, each in [0, number of tokens].

    Returns:
        One piece more than there are cuts; None if the tokens do not decode to the text.
    """
    if text not in (decode(token_ids), decode(token_ids[:-1])):
        return None
    places = [0]
    for cut in cuts:
        before = decode(token_ids[:cut])
        if not text.startswith(before):  # it ends inside of a character
            pairs = enumerate(zip(before, text, strict=False))
            before = before[: next((i for i, (a, b) in pairs if a != b), len(before))]
        places.append(max(places[-1], len(before)))
    places.append(len(text))
    return [text[start:end] for start, end in pairwise(places)]


def _decode_with(tokenizer: object) -> Decode:
    decode = tokenizer.decode  # type: ignore[attr-defined]
    return lambda ids: str(decode(list(ids), skip_special_tokens=False)) if ids else ""


def _places(view: RunView) -> list[Path]:
    checkpoints = sorted(view.run_dir.checkpoints.glob("version_*/hf/tokenizer.json"))
    model = str(view.option("model.path", ""))
    if not model:
        return checkpoints[-1:]
    found = [*checkpoints[-1:], Path(model, "tokenizer.json")]
    return found if Path(model).exists() else found + _cached(model)


def _cached(repository: str) -> list[Path]:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(repository, "tokenizer.json")
    except HFValidationError:  # a path that is gone is no name of a repository
        return []
    return [Path(path)] if isinstance(path, str) else []
