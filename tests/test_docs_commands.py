"""The commands that README and docs show, run as they stand, in a directory with the files shown.

Commands that would train, sample or measure are run with `dry_run=true`: composition, checks,
plan. `RUN` is a run directory that an earlier command left.
"""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from async_r1 import cli
from async_r1.compose import compose
from async_r1.run_dir import write_json
from async_r1.tasks import load_task
from tests.async_r1.synthetic_journal import write_journal
from tests.async_r1.synthetic_run import make_run

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# ([\w./]+\.\w+)\n")
_COMPOSING = [name for name, command in cli.COMMANDS.items() if command.composes]


def commands(page: Path) -> Iterator[list[str]]:
    """Arguments of every command of a page, without what a shell takes for a comment."""
    text = page.read_text()
    lines = [line[4:] for line in text.splitlines() if line.startswith("    async_r1 ")]
    lines += [
        line for kind, body in _BLOCK.findall(text) if kind == "sh" for line in body.split("\n")
    ]
    for line in lines:
        words = shlex.split(line, comments=True)
        if words:
            assert words[0] in ("async_r1", "make"), line
            if words[0] == "async_r1":
                yield words[1:]


def write_files(page: Path, directory: Path) -> None:
    """The files of a page: blocks whose first line is `# name`."""
    for kind, body in _BLOCK.findall(page.read_text()):
        if (head := _FILE.match(body)) and kind != "sh":
            (directory / head[1]).write_text(body if kind == "python" else body[head.end() :])


CASES = [
    pytest.param(page, arguments, id=f"{page.stem}-{' '.join(arguments)[:70]}")
    for page in PAGES
    for arguments in commands(page)
]


@pytest.mark.parametrize(("page", "arguments"), CASES)
def test_a_command_of_the_docs(
    page: Path,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(page, tmp_path)
    if "RUN" in arguments:
        run = make_run(tmp_path / "RUN", steps=20)
        shutil.copytree(ROOT / "configs/checkpoints/nano", run.checkpoint(20) / "hf")
        write_json(run.checkpoint(20) / "COMPLETE", {"policy_version": 20})
        write_journal(run.journal)
    if any(argument.endswith("labels.jsonl") for argument in arguments[1:]):
        prompts = load_task(compose(["experiment=demo"]).task).prompts("train")[:50]
        rows = [{"prompt_id": p.prompt_id, "difficulty": 1 + i % 3} for i, p in enumerate(prompts)]
        Path("labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if arguments[0] in _COMPOSING and not {"--help", "dry_run=true"} & set(arguments):
        arguments = [*arguments, "dry_run=true"]
    code = cli.main(arguments)
    out, err = capsys.readouterr()
    assert code == 0, err
    assert out and "Traceback" not in err


def test_make_targets_of_the_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {t for page in PAGES for t in re.findall(r"\bmake ([a-z-]+)\b", page.read_text())}
    shown = {
        t for page in PAGES for t in re.findall(r"^    make ([a-z-]+)", page.read_text(), re.M)
    }
    assert shown and shown <= targets
    assert {"demo", "test", "setup"} <= named & targets
