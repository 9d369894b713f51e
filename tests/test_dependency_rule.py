"""`actors`, `buffer` and `learner` import `async_r1` and not each other; `async_r1` imports none.

Function-level imports count too. And `async_r1` imports no heavy library when it is imported, so
that its command line starts at once and its parts work where those are not installed.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("async_r1", "actors", "buffer", "learner")
ALLOWED = {
    "async_r1": set(),
    "actors": {"async_r1"},
    "buffer": {"async_r1"},
    "learner": {"async_r1"},
}
HEAVY = {"torch", "vllm", "deepspeed", "transformers", "tokenizers", "safetensors"}
HYDRA_FREE = ("cli.py", "help.py", "config.py", "config_dir.py", "schema.py", "errors.py")


def imports(tree: ast.AST, *, at_import: bool = False) -> Iterator[tuple[int, str]]:
    """(line, top-level package) of every import; of those that run at import if `at_import`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            yield node.lineno, (node.module or "").partition(".")[0]
        elif isinstance(node, ast.Call) and _dynamic(node):
            yield node.lineno, str(node.args[0].value).partition(".")[0]  # type: ignore[attr-defined]
            continue
        deferred = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if not (at_import and (deferred or _is_type_checking(node))):
            yield from imports(node, at_import=at_import)


def violations(package: str, source: str, name: str) -> list[str]:
    """What in one file breaks the rule."""
    tree = ast.parse(source)
    foreign = set(PACKAGES) - ALLOWED[package] - {package}
    found = [
        f"{name}:{line} imports {imported}"
        for line, imported in imports(tree)
        if imported in foreign
    ]
    if package == "async_r1":
        found += [
            f"{name}:{line} imports {imported} at import"
            for line, imported in imports(tree, at_import=True)
            if imported in HEAVY
        ]
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    found = [
        violation
        for file in files
        for violation in violations(package, file.read_text(), str(file.relative_to(ROOT)))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("async_r1", "import buffer"),
        ("async_r1", "from learner.model import load_policy"),
        ("async_r1", "def f():\n    from actors import loop"),
        ("async_r1", "import importlib\nimportlib.import_module('actors.loop')"),
        ("async_r1", "import torch"),
        ("async_r1", "try:\n    import vllm.config\nexcept ImportError:\n    pass"),
        ("async_r1", "class A:\n    from transformers import AutoTokenizer"),
        ("actors", "import buffer.core"),
        ("buffer", "class A:\n    def f(self):\n        import learner"),
        ("learner", "if True:\n    from actors.engine import SamplingEngine"),
    ],
)
def test_a_planted_violation_is_found(package: str, source: str) -> None:
    assert len(violations(package, source, "planted.py")) == 1


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("async_r1", "def f():\n    import torch"),
        ("async_r1", "if TYPE_CHECKING:\n    import torch"),
        ("async_r1", "import numpy\nfrom async_r1.types import Batch"),
        ("actors", "import torch\nimport vllm\nfrom async_r1 import wire\nfrom actors import loop"),
    ],
)
def test_what_is_allowed_is_not_found(package: str, source: str) -> None:
    assert violations(package, source, "planted.py") == []


@pytest.mark.parametrize("name", HYDRA_FREE)
def test_help_needs_no_hydra(name: str) -> None:
    tree = ast.parse((ROOT / "async_r1" / name).read_text())
    assert {"hydra", "omegaconf"}.isdisjoint(package for _, package in imports(tree))


def _dynamic(node: ast.Call) -> bool:
    """`__import__("x")` or `importlib.import_module("x")` of a literal name."""
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    literal = bool(node.args) and isinstance(node.args[0], ast.Constant)
    return name in ("__import__", "import_module") and literal


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
