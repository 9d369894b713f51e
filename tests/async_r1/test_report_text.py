"""Characters by token, against the bytes that every token stands for."""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from async_r1.report_text import Decode, decoder, pieces
from async_r1.run_dir import RunDir, write_json
from async_r1.view import RunView
from tests.async_r1.synthetic_run import make_run

STOP = 256


def decode_bytes(ids: Sequence[int]) -> str:
    """A byte-level tokenizer without merges; the stop token writes nothing."""
    return bytes(i for i in ids if i != STOP).decode("utf-8", "replace")


def byte_tokenizer() -> Tokenizer:
    """The same, by the library."""
    alphabet = {chr(c): c for c in (*range(33, 127), *range(161, 173), *range(174, 256))}
    others = [b for b in range(256) if b not in alphabet.values()]
    alphabet |= {chr(256 + i): b for i, b in enumerate(others)}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def library_decode() -> Decode:
    tokenizer = byte_tokenizer()
    return lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=False)) if ids else ""


def owned(text: str, cuts: list[int]) -> list[str]:
    """Character by character: it belongs where its last byte is."""
    parts, position = [""] * (len(cuts) + 1), 0
    for char in text:
        position += len(char.encode())
        parts[bisect_right(cuts, position - 1)] += char
    return parts


@given(st.text(max_size=40), st.lists(st.floats(0, 1), max_size=6))
def test_a_character_belongs_to_the_token_that_completes_it(text: str, at: list[float]) -> None:
    ids = list(text.encode())
    cuts = sorted(round(share * len(ids)) for share in at)
    for decode in (decode_bytes, library_decode()):
        assert pieces(text, ids, cuts, decode) == owned(text, cuts)


@given(st.binary(max_size=30), st.lists(st.integers(0, 30), max_size=5))
def test_bytes_that_are_no_text_lose_nothing(ids: bytes, at: list[int]) -> None:
    cuts = sorted(min(cut, len(ids)) for cut in at)
    text = decode_bytes(list(ids))
    found = pieces(text, list(ids), cuts, decode_bytes)
    assert found is not None and "".join(found) == text and len(found) == len(cuts) + 1


def test_the_replacement_character_may_be_meant() -> None:
    text = "a\ufffd€b"
    assert pieces(text, list(text.encode()), [5], decode_bytes) == ["a\ufffd", "€b"]


def test_a_decoder_that_rewrites_loses_nothing() -> None:
    texts = {(): "", (1,): "a", (1, 2): "x", (1, 2, 3): "abc"}
    found = pieces("abc", [1, 2, 3], [1, 2], lambda ids: texts[tuple(ids)])
    assert found == ["a", "", "bc"]


def test_the_stop_token_is_not_in_the_text() -> None:
    ids = [*b"42", 7]
    assert pieces("42", ids, [1], decode_bytes) == ["4", "2"]
    assert pieces("42", ids, [2], decode_bytes) == ["42", ""]


def test_another_text_is_refused() -> None:
    assert pieces("41", list(b"42"), [1], decode_bytes) is None
    assert pieces("4", list(b"422"), [1], decode_bytes) is None


def test_the_tokenizer_is_found_in_the_run_or_at_its_model(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=1)
    assert decoder(RunView(run)) is None
    _set_model(run, str(tmp_path / "model"))
    assert decoder(RunView(run)) is None
    (tmp_path / "model").mkdir()
    byte_tokenizer().save(str(tmp_path / "model" / "tokenizer.json"))
    _assert_decodes(run)
    for version, content in ((3, "cut sh"), (2, "not read")):  # an older one is not looked at
        place = run.checkpoint(version) / "hf"
        place.mkdir(parents=True)
        (place / "tokenizer.json").write_text(content)
    _assert_decodes(run)  # by what is at model.path
    byte_tokenizer().save(str(run.checkpoint(3) / "hf" / "tokenizer.json"))
    _set_model(run, "")
    _assert_decodes(run)


@pytest.mark.parametrize("model", ["/gone/model", "no/such-model", "a b/c\n"])
def test_a_model_that_is_not_here_has_no_tokenizer(tmp_path: Path, model: str) -> None:
    run = make_run(tmp_path / "run", steps=1)
    _set_model(run, model)
    assert decoder(RunView(run)) is None


def _assert_decodes(run: RunDir) -> None:
    decode = decoder(RunView(run))
    assert decode is not None
    assert decode(list("é=1".encode())) == "é=1" and decode([]) == ""


def _set_model(run: RunDir, path: str) -> None:
    values = RunView(run).resolved
    values["config"]["model"]["path"] = path
    write_json(run.resolved, values)
