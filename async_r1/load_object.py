"""Objects of the user's own: a class or a function named as `path/file.py:name`."""

import hashlib
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from async_r1.errors import ConfigError
from async_r1.schema import nearest


def is_spec(text: str) -> bool:
    """Whether the text has the form of `path/file.py:name`, not whether the file is there."""
    return ".py:" in text


def resolve_spec(spec: str) -> str:
    """The same with an absolute path, so that every role finds the file wherever it runs.

    A relative path is relative to the working directory, `~` is the home directory. What has not
    the form of a spec stays as it is.

    Example: "tasks/mine.py:Mine" becomes "/home/me/tasks/mine.py:Mine"
    """
    path, colon, name = spec.rpartition(":")
    return f"{Path(path).expanduser().resolve()}:{name}" if colon and path else spec


def load_object(spec: str, *, option: str) -> Any:
    """The object of this name in a Python file.

    The file runs once per process and contents, as a module that no other import finds; what it
    imports must be importable from anywhere.

    Args:
        spec: as in "path/file.py:name"; see `resolve_spec` for the path.
        option: the option that the spec comes from, for error messages, as in "reward.function".

    Raises:
        ConfigError: one line; the spec has another form, the file is not there or not readable,
            raises when run, or has no such name.
    """
    path_text, _, name = resolve_spec(spec).rpartition(":")
    if not path_text.endswith(".py") or not name.isidentifier():
        raise ConfigError(f"{option} must be path/file.py:name, got {spec!r}")
    path = Path(path_text)
    if not path.is_file():
        raise ConfigError(f"{option}: no such file {path}{_hint(path.name, _siblings(path))}")
    module = _module(path, option)
    if not hasattr(module, name):
        own = [key for key in vars(module) if not key.startswith("_")]
        raise ConfigError(f"{option}: {path} has no {name!r}{_hint(name, own)}")
    return getattr(module, name)


def _module(path: Path, option: str) -> ModuleType:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{option}: cannot read {path}: {error.strerror}") from error
    digest = hashlib.blake2b(bytes(path) + b"\0" + source, digest_size=8).hexdigest()
    module_name = f"async_r1_user_{path.stem}_{digest}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    module = ModuleType(module_name)
    module.__file__ = str(path)
    sys.modules[module_name] = module  # dataclasses of the file look their module up
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
        what = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise ConfigError(f"{option}: {path}{_line(error, path)} raises {what}") from error
    return module


def _line(error: BaseException, path: Path) -> str:
    """Where in the file: the innermost of its lines that the exception passed."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f", line {error.lineno},"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path)
    ]
    return f", line {lines[-1]}," if lines else ""


def _siblings(path: Path) -> list[str]:
    return [file.name for file in path.parent.glob("*.py")] if path.parent.is_dir() else []


def _hint(given: str, known: list[str]) -> str:
    match = nearest(given, known)
    return f"; did you mean {match}?" if match else ""
