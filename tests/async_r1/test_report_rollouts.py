"""Rollouts on the page: which are chosen, and their text by version."""

import json
import re
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from async_r1.report import write_report
from async_r1.report_card import SHOWN_CHARS, card, shades
from async_r1.report_rollouts import STEPS_READ, Kept, spread, telling
from async_r1.report_spans import spans_of
from async_r1.run_dir import RunDir, write_json
from async_r1.view import RunView
from tests.async_r1.page import EVIL, Checker
from tests.async_r1.synthetic_run import make_run
from tests.async_r1.test_report_text import byte_tokenizer, library_decode


def row(text: str, **fields: Any) -> dict[str, Any]:
    """A recorded rollout whose tokens are bytes, all of version 0 under one lease."""
    ids = list(text.encode())
    values = {
        "rollout_id": 0,
        "prompt_id": "p",
        "level": 2,
        "prompt": "1+1=",
        "text": text,
        "rewards": {"accuracy": 1.0, "task": 1.0, "total": 1.1},
        "num_tokens": len(ids),
        "token_ids": ids,
        "versions": [[0, len(ids)]],
        "leases": [["actor_000", len(ids)]],
        "swaps": [],
        "truncated": False,
        "kept": ["best"],
    }
    return {**values, **fields}


def completion(html: str) -> str:
    (pre,) = re.findall(r'<pre class="completion">(.*?)</pre>', html, re.S)
    return str(pre)


def shown(pre: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", pre))


def coloured(pre: str) -> list[tuple[str, int, str]]:
    """(title, shade, text) of each coloured run."""
    found = re.findall(
        r'<span class="v[^"]*" style="--p:(\d+)%" title="(.*?)">(.*?)</span>', pre, re.S
    )
    return [(unescape(title), int(shade), unescape(text)) for shade, title, text in found]


def test_a_text_is_coloured_by_version_and_names_its_leases() -> None:
    html = card(
        row(
            "2+é=7",  # six bytes
            versions=[[3, 3], [5, 2], [9, 1]],
            leases=[["actor_000", 2], ["actor_001", 4]],
            swaps=[5],
        ),
        "best",
        library_decode(),
    )
    assert coloured(completion(html)) == [
        ("version 3; tokens 1 to 2 of 6; lease 1, actor_000", 0, "2+"),
        ("version 5; tokens 4 to 5 of 6; lease 2, actor_001", 50, "é="),
        (
            "version 9; tokens 6 to 6 of 6; lease 2, actor_001; weights changed here under a KV "
            "cache that was kept",
            100,
            "7",
        ),
    ]  # the first byte of é, of version 3, has no character of its own
    marks = re.findall(r'<b class="resumed" title="(.*?)"></b>', html)
    assert marks == [
        "suspended after token 2 by actor_000 at version 3; continued by actor_001 at version 3"
    ]
    assert html.count('class="v swapped"') == 1
    bar = re.findall(r'<li class="v" style="--p:(\d+)%;flex-grow:(\d+)">v(\d+) <small>(\d+)', html)
    assert bar == [("0", "3", "3", "3"), ("50", "2", "5", "2"), ("100", "1", "9", "1")]
    assert "2 leases: actor_000 2 tokens, actor_001 4 tokens; 1 weight update under" in html


def test_waiting_between_leases_is_said_in_versions() -> None:
    given = row("abcd", versions=[[1, 2], [4, 2]], leases=[["a", 2], ["a", 2]])
    html = card(given, "", library_decode())
    assert "continued by a at version 4, 3 versions later" in html
    assert "2 leases, a" in html


@pytest.mark.parametrize("truncated", [False, True])
def test_a_stop_token_of_its_own_version_is_marked(truncated: bool) -> None:
    given = row("ab", token_ids=[*b"ab", 7], versions=[[1, 2], [2, 1]], leases=[["a", 3]])
    html = card({**given, "truncated": truncated}, "", library_decode())
    assert html.count('class="v stop"') == (not truncated)
    assert shown(completion(html)) == "ab"


def test_a_text_that_its_tokens_do_not_give_is_plain() -> None:
    for given, decode in (
        (row("abcd", versions=[[1, 2], [4, 2]]), None),
        (row("abcd", versions=[[1, 2], [4, 2]], token_ids=[1, 2, 3, 4]), library_decode()),
        (row("abcd", versions=[[1, 2], [4, 2]], token_ids=[1]), library_decode()),
    ):
        html = card(given, "", decode)
        assert completion(html) == "abcd"
        assert ">v1 <small>2" in html


def test_shades_go_from_the_oldest_to_the_newest() -> None:
    spans = spans_of({"versions": [[7, 1], [8, 5], [20, 1], [21, 1], [30, 1]]})
    assert shades(spans) == {7: 0, 8: 25, 20: 50, 21: 75, 30: 100}
    assert shades(spans[:1]) == {7: 0}


@pytest.mark.parametrize("decode", [None, library_decode()])
@pytest.mark.parametrize("length", [SHOWN_CHARS, SHOWN_CHARS + 1, 3 * SHOWN_CHARS])
@pytest.mark.parametrize("runs", [1, 2, 7])
def test_the_middle_of_a_long_text_is_left_out(decode: Any, length: int, runs: int) -> None:
    text = "".join(chr(97 + i % 26) for i in range(length))
    sizes = [length // runs] * (runs - 1)
    versions = [[i, n] for i, n in enumerate([*sizes, length - sum(sizes)])]
    pre = completion(card(row(text, versions=versions), "", decode))
    gaps = re.findall(r'<i class="gap">([\d,]+) characters left out</i>', pre)
    missing = max(0, length - SHOWN_CHARS)
    assert gaps == ([f"{missing:,}"] if missing else [])
    head, _, tail = pre.partition('<i class="gap">')
    half = SHOWN_CHARS // 2
    if missing:
        assert shown(head) == text[:half]
        assert shown(tail.partition("</i>")[2]) == text[-half:]
    else:
        assert shown(pre) == text


def test_what_a_model_wrote_is_text_and_nothing_else() -> None:
    given = row(
        EVIL,
        level=EVIL,
        prompt=EVIL,
        rewards={"total": None, EVIL: 1.0},
        versions=[[0, 20], [1, len(EVIL.encode()) - 20]],
        leases=[[EVIL, 9], [EVIL, len(EVIL.encode()) - 9]],
        swaps=[11],
    )
    for decode in (None, library_decode()):
        html = card(given, EVIL, decode)
        checker = Checker(html)
        assert not {tag for tag, _ in checker.tags} & {"script", "img"}
        assert shown(completion(html)) == EVIL
        (prompt,) = re.findall(r'<pre class="prompt">(.*?)</pre>', html, re.S)
        assert unescape(prompt) == EVIL
    long = completion(card(row(EVIL * 1000), "", None))  # its middle is left out
    assert shown(long).startswith(EVIL) and shown(long).endswith(EVIL)
    assert "gap" in long and not {tag for tag, _ in Checker(long).tags} & {"script", "img"}
    odd = {"text": EVIL, "num_tokens": EVIL}
    assert shown(completion(card(odd, "", library_decode()))) == EVIL


def test_the_telling_rollouts() -> None:
    def kept(step: int, ident: int, total: float, versions: int, leases: int, tokens: int) -> Kept:
        rest = tokens - versions + 1
        given = row(
            "x" * tokens,
            rollout_id=ident,
            rewards={"total": total},
            versions=[*([v, 1] for v in range(versions - 1)), [versions, rest]],
            leases=[*(["a", 1] for _ in range(leases - 1)), ["a", tokens - leases + 1]],
            kept=["best" if total > 0.5 else "worst"],
        )
        return Kept(step, given)

    rows = [
        kept(1, 1, 1.0, versions=5, leases=2, tokens=9),  # most versions of the run
        kept(1, 2, 0.0, versions=1, leases=6, tokens=9),  # most leases
        kept(2, 3, 1.0, versions=1, leases=1, tokens=7),
        kept(2, 4, 1.0, versions=2, leases=1, tokens=6),  # as good as 3, of more versions
        kept(2, 5, 0.2, versions=1, leases=1, tokens=6),
        kept(2, 6, 0.1, versions=1, leases=1, tokens=50),  # the worst, and the longest
    ]
    found = [(item.row["rollout_id"], reasons) for item, reasons in telling(rows)]
    assert found == [
        (4, ["best"]),
        (6, ["worst", "longest"]),
        (1, ["most versions"]),
        (2, ["suspended most often"]),
    ]
    calm = [kept(1, 1, 1.0, versions=1, leases=1, tokens=9)]
    assert [reasons for _, reasons in telling(calm)] == [["best", "longest"]]
    twice = [kept(step, 1, 1.0, versions=3, leases=1, tokens=9) for step in (1, 2)]
    assert [(item.step, reasons) for item, reasons in telling(twice)] == [
        (2, ["best", "most versions", "longest"])
    ]
    assert telling([]) == []


def test_a_rollout_whose_reward_failed_is_shown_with_its_error() -> None:
    failed = row("ab", rollout_id=9, rewards={}, error=EVIL, kept=["reward error"])
    fine = row("abc", rollout_id=1)
    found = telling([Kept(1, failed), Kept(2, {**failed, "rollout_id": 10}), Kept(2, fine)])
    assert [(item.row["rollout_id"], reasons) for item, reasons in found] == [
        (1, ["best", "longest"]),
        (10, ["its reward failed"]),
    ]
    (error,) = re.findall(r'<p class="error">(.*?)</p>', card(failed, "", None), re.S)
    assert unescape(error) == f"no reward: {EVIL}"
    assert 'class="error"' not in card(fine, "", None)


def test_files_are_looked_at_evenly() -> None:
    paths = [Path(str(i)) for i in range(1000)]
    found = [int(path.name) for path in spread(paths, STEPS_READ)]
    assert (len(found), found[0], found[-1]) == (STEPS_READ, 0, 999)
    assert {b - a for a, b in pairwise(found)} <= {15, 16}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run = make_run(tmp_path_factory.mktemp("rollouts") / "run", steps=40)
    values = RunView(run).resolved
    values["config"]["model"]["path"] = str(run.root / "model")
    write_json(run.resolved, values)
    (run.root / "model").mkdir()
    byte_tokenizer().save(str(run.root / "model" / "tokenizer.json"))
    with run.rollouts_file(40).open("a") as file:
        file.write('{"text": "cut sh')
    return run


def section(page: str) -> str:
    return page[page.index('<section id="rollouts">') : page.index('<section id="configuration">')]


def test_the_section_of_a_run(run: RunDir) -> None:
    html = section(write_report(run).read_text())
    assert re.findall(r"<summary>step (\d+)</summary>", html) == ["1", "14", "27", "40"]
    titles = re.findall(r"<article><h4>(.*?)</h4>", html)
    assert titles[0].startswith("best") and titles[0].endswith("(step 40)")
    assert titles[1].startswith("worst") and titles[1].endswith("(step 40)")
    kept = [json.loads(line) for line in run.rollouts_file(40).read_text().splitlines()[:-1]]
    last = html[html.index("<summary>step 40</summary>") :]
    best, worst = last.split("<h4>worst</h4>")
    for name, part in (("best", best), ("worst", worst)):
        texts = [shown(pre) for pre in re.findall(r'"completion">(.*?)</pre>', part, re.S)]
        assert texts == [item["text"] for item in kept if item["kept"] == [name]][:2]
    first = coloured(completion(html[html.index("<article>") : html.index("</article>")]))
    assert [shade for _, shade, _ in first] == [0, 50, 100]
    assert "cut sh" not in html


def test_without_a_tokenizer_the_section_says_so(tmp_path: Path) -> None:
    html = section(write_report(make_run(tmp_path / "run", steps=3)).read_text())
    assert "tokenizer of the run is not at hand" in html
    assert not coloured(html) and '<li class="v"' in html
