"""Checks of a model directory that need no weights loaded: what could never run is said at once.

Only headers and JSON are read, so they take well under a second for any model. A Hugging Face name
is checked by each role when its files have come.
"""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from async_r1.config_task import TaskConfig
from async_r1.errors import ConfigError
from async_r1.templates import check_template_options, no_chat_template

_CAUSAL = ("ForCausalLM", "LMHeadModel")
_EMBEDDINGS = (
    "embed_tokens.weight",
    "wte.weight",
    "embed_in.weight",
    "word_embeddings.weight",
    "lm_head.weight",
)
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth")
# What transformers makes a tokenizer of where there is no tokenizer.json.
_SLOW_TOKENIZERS = ("tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
_FINGERPRINT_BYTES = 1 << 20  # of each file
_DOWNLOADED = ["*.json", "*.txt", "*.model", "*.jinja"]


def check_model(path: str, task: TaskConfig, *, complete: bool = True) -> None:
    """Refuse a directory that actors and learner could not load; a Hugging Face name passes.

    Args:
        complete: weights and tokenizer must be there; otherwise only what is there is checked.

    Raises:
        ConfigError: one line that names the file and both sides of what does not fit.
    """
    directory = Path(path)
    if not directory.is_dir():
        return
    config = _read(directory / "config.json")
    text = config.get("text_config") or config
    names = list(config.get("architectures") or [])
    if (names or complete) and not any(name.endswith(_CAUSAL) for name in names):
        raise ConfigError(
            f"model.path must be a causal language model (...ForCausalLM), {directory} has "
            f"architectures {names}"
        )
    _check_tokenizer(directory, text.get("vocab_size"), task, complete)
    if complete:
        _check_stop(directory, config)
        _check_weights(directory, text)


def check_named_model(path: str, task: TaskConfig) -> None:
    """The same for a role: a Hugging Face name's small files are fetched, its weights are not.

    Raises:
        ConfigError: as `check_model`, or there is no such model.
    """
    if Path(path).is_dir():
        return  # checked before this role was started
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        local = snapshot_download(path, allow_patterns=_DOWNLOADED)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"model.path {path!r} cannot be fetched: {reason}") from None
    check_model(local, task, complete=False)


def vocab_size(path: str) -> int | None:
    """The number of token ids of a model, by its config.json; None if that is not on this host.

    Args:
        path: a directory, or a Hugging Face name, which is looked for among what was fetched.
    """
    file: Any = Path(path) / "config.json"
    if not Path(path).is_dir():
        try:
            from huggingface_hub import try_to_load_from_cache

            file = try_to_load_from_cache(path, "config.json")
        except (ImportError, ValueError):  # of a name that none can have
            return None
    if not isinstance(file, str | Path) or not Path(file).is_file():
        return None
    config = _read(Path(file))
    found = (config.get("text_config") or config).get("vocab_size")
    return found if type(found) is int and found > 0 else None


def check_vocabulary(largest_id: int, vocab_size: int, where: str) -> None:
    """A token id beyond the embedding would stop the run when it is first sampled or read.

    Raises:
        ConfigError: naming both numbers.
    """
    if largest_id >= vocab_size:
        raise ConfigError(
            f"the tokenizer does not fit the model in {where}: its largest token id is "
            f"{largest_id}, the model's vocab_size {vocab_size}"
        )


def _check_tokenizer(
    directory: Path, vocab_size: int | None, task: TaskConfig, complete: bool
) -> None:
    path = directory / "tokenizer.json"
    if not path.is_file():
        if complete and not any((directory / name).is_file() for name in _SLOW_TOKENIZERS):
            raise ConfigError(f"model.path {directory} has no tokenizer (no tokenizer.json)")
        if not complete:
            return
    elif vocab_size is not None:
        from tokenizers import Tokenizer

        try:
            vocabulary = Tokenizer.from_file(str(path)).get_vocab(with_added_tokens=True)
        except Exception as error:  # the library raises nothing narrower
            raise ConfigError(f"{path} is not a tokenizer: {error}") from None
        check_vocabulary(max(vocabulary.values(), default=-1), vocab_size, str(directory))
    if task.template == "chat":
        source = _chat_template(directory)
        if source is None:
            raise ConfigError(no_chat_template(str(directory)))
        check_template_options(source, task.template_options)


def _chat_template(directory: Path) -> str | None:
    """Where transformers looks: a file of its own, else the tokenizer's settings."""
    path = directory / "chat_template.jinja"
    if path.is_file():
        return path.read_text()
    for name in ("chat_template.json", "tokenizer_config.json"):
        path = directory / name
        found = _read(path).get("chat_template") if path.is_file() else None
        if isinstance(found, list):  # several by name
            found = {entry["name"]: entry["template"] for entry in found}.get("default")
        if found is not None:
            return str(found)
    return None


def _check_stop(directory: Path, config: dict[str, Any]) -> None:
    """Where `actors.stop_tokens` looks."""
    path = directory / "generation_config.json"
    stops = [_read(path).get("eos_token_id")] if path.is_file() else []
    stops += [config.get("eos_token_id"), (config.get("text_config") or {}).get("eos_token_id")]
    if all(stop is None for stop in stops):
        raise ConfigError(
            f"model.path {directory} names no end-of-sequence token: no rollout could end by "
            f"itself; set eos_token_id in its generation_config.json"
        )


def _check_weights(directory: Path, config: dict[str, Any]) -> None:
    if not any(path for pattern in _WEIGHTS for path in directory.glob(pattern)):
        raise ConfigError(f"model.path {directory} has no weights (no *.safetensors or *.bin)")
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        shards = set(_read(index).get("weight_map", {}).values())
        missing = sorted(name for name in shards if not (directory / name).is_file())
        if missing:
            raise ConfigError(f"model.path {directory} lacks weights: {', '.join(missing)}")
    shapes: dict[str, list[int]] = {}
    for path in sorted(directory.glob("*.safetensors")):
        shapes |= read_shapes(path)
    hidden = config.get("hidden_size") or config.get("n_embd")
    vocab_size = config.get("vocab_size")
    if not shapes or hidden is None or vocab_size is None:
        return
    expected = [vocab_size, hidden]
    for name, shape in shapes.items():
        if name.endswith(_EMBEDDINGS) and shape != expected:
            raise ConfigError(
                f"the weights in {directory} are of another architecture than its config.json: "
                f"{name} is {_size(shape)}, vocab_size x hidden_size {_size(expected)}"
            )
    if expected not in shapes.values():
        raise ConfigError(
            f"the weights in {directory} are of another architecture than its config.json: none "
            f"is an embedding of vocab_size x hidden_size {_size(expected)}"
        )


def read_shapes(path: Path) -> dict[str, list[int]]:
    """Tensor name -> shape, from the header of a safetensors file.

    Format: 8 bytes of header length (little-endian), a JSON header, the tensors' bytes.

    Raises:
        ConfigError: the file is not of this format, or is cut.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        shapes = {name: list(entry["shape"]) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ConfigError(f"{path} is not a safetensors file: {error}") from None
    if end > size:
        raise ConfigError(f"{path} is cut: it should have {end} bytes and has {size}")
    return shapes


def _size(shape: list[int]) -> str:
    return " x ".join(map(str, shape))


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"cannot read {path}: it holds no JSON object")
    return value


def fingerprint(path: str) -> str:
    """Of a model's weights, from names, sizes and the end of each file; a hub's name as it is."""
    directory = Path(path)
    if not directory.is_dir():
        return path
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(file for pattern in _WEIGHTS for file in directory.glob(pattern)):
        size = file.stat().st_size
        with file.open("rb") as opened:
            opened.seek(max(0, size - _FINGERPRINT_BYTES))
            digest.update(f"{file.name} {size} ".encode() + opened.read())
    return digest.hexdigest()
