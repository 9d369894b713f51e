"""Every sentence of the page from rows in which its numbers can be counted by hand."""

import shlex
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from async_r1.report import write_report
from async_r1.report_flow import journal, left_out, staleness, trained_share, waiting
from async_r1.report_outcome import accuracy, lengths, levels
from async_r1.report_words import code, command, control, what, words_section
from async_r1.run_dir import RunDir, write_json
from async_r1.summary import Summary, summarize
from async_r1.view import RunView
from tests.async_r1.synthetic_run import make_run, write_rows

Rows = list[dict[str, Any]]
Make = Callable[..., tuple[RunView, Summary]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A run of given rows; options by dotted name."""

    def of(
        *,
        learner: Rows | None = None,
        buffer: Rows | None = None,
        evals: Rows | None = None,
        actor: Rows | None = None,
        state: str = "finished",
        **options: Any,
    ) -> tuple[RunView, Summary]:
        run = RunDir.create(tmp_path / "run")
        config: dict[str, Any] = {}
        for name, value in options.items():
            section, _, option = name.partition("__")
            if option:
                config.setdefault(section, {})[option] = value
            else:
                config[section] = value
        write_json(run.resolved, {"config": config})
        write_json(run.status, {"state": state})
        for name, rows in (
            ("learner", learner),
            ("buffer", buffer),
            ("eval", evals),
            ("actor_000", actor),
        ):
            write_rows(run, name, rows or [])
        view = RunView(run)
        return view, summarize(view)

    return of


STEPS = [{"step": s, "policy_version": s - 1, "wall_s": 60.0 * s} for s in (1, 2, 3)]
CONFIG = {
    "mode": "async",
    "model__path": "/models/nano",
    "task__name": "arithmetic",
    "task__levels": [2, 3, 4],
    "staleness__eta": 6,
    "objective__name": "dppo",
    "learner__groups_per_update": 8,
    "learner__num_updates": 3,
    "learner__ranks": 1,
    "buffer__group_size": 4,
    "actors__count": 2,
}


def test_what_was_trained(make: Make) -> None:
    assert what(*make(learner=STEPS, **CONFIG)) == (
        "The run trained nano on arithmetic (levels 2 to 4) for 3 optimizer steps in 3 min 00 s, "
        "and finished. It ran asynchronously (staleness.eta=6) with objective=dppo, 8 groups of "
        "4 rollouts a step, 2 actors and 1 learner rank."
    )


@pytest.mark.parametrize(
    ("state", "end"),
    [
        ("failed", "and failed"),
        ("interrupted", "and was interrupted"),
        ("running", "and was still running when this page was written"),
        ("", "how it ended is not recorded"),
    ],
)
def test_how_it_ended(make: Make, state: str, end: str) -> None:
    options = {**CONFIG, "learner__num_updates": 50, "mode": "sync", "task__levels": [1, 4]}
    text = what(*make(learner=STEPS, state=state, **options))
    assert f"(levels 1, 4) for 3 of 50 optimizer steps in 3 min 00 s, {end}." in text
    assert "It ran synchronously with" in text


def test_a_control_is_called_one(make: Make) -> None:
    view, _ = make(reward__shuffle=True)
    assert "from which nothing can be learned" in control(view)


def test_no_control(make: Make) -> None:
    view, _ = make(reward__shuffle=False)
    assert control(view) == ""


def an_eval(version: int, value: float, **fields: Any) -> dict[str, Any]:
    row = {"policy_version": version, "eval/accuracy": value, "eval/num_prompts": 100}
    return {**row, "wall_s": 1.0, **fields}


def test_accuracy_with_intervals(make: Make) -> None:
    """Wilson's interval of 20 and 80 of 100 is [0.1334, 0.2888] and [0.7112, 0.8666]."""
    rows = [an_eval(0, 0.2), an_eval(5, 0.9), an_eval(10, 0.8)]
    assert accuracy(*make(evals=rows)) == (
        "Held-out accuracy (100 prompts, greedy, 95 % intervals) went from 0.200 at v0 (0.133 to "
        "0.289) to 0.800 at v10 (0.711 to 0.867). It was highest at v5, 0.900."
    )


@pytest.mark.parametrize("last", [0.34, 0.1])
def test_intervals_that_overlap_are_said_to(make: Make, last: float) -> None:
    """Of 34 of 100 the lower end is 0.2548; of 20 the upper one is 0.2888."""
    text = accuracy(*make(evals=[an_eval(0, 0.2), an_eval(1, last)]))
    assert "The intervals overlap: these evals do not tell the two apart." in text
    assert ("highest at v0" in text) is (last < 0.2)


def test_intervals_apart(make: Make) -> None:
    """Of 40 of 100 the lower end is 0.3094."""
    text = accuracy(*make(evals=[an_eval(0, 0.2), an_eval(1, 0.4)], eval__temperature=0.6))
    assert "overlap" not in text and "(100 prompts, at temperature 0.6, 95 %" in text


def test_intervals_apart_the_other_way(make: Make) -> None:
    assert "overlap" not in accuracy(*make(evals=[an_eval(0, 0.8), an_eval(1, 0.2)]))


def test_one_eval(make: Make) -> None:
    text = accuracy(*make(evals=[an_eval(0, 0.2)]))
    assert text.endswith("was measured once: 0.200 at v0 (0.133 to 0.289).")


def test_no_eval(make: Make) -> None:
    assert accuracy(*make(learner=STEPS)) == "Held-out accuracy was not measured."


def test_accuracy_by_level(make: Make) -> None:
    name = "eval/accuracy/level_{}"
    rows = [
        an_eval(0, 0.2, **{name.format(2): 0.4, name.format(10): 0.0}),
        an_eval(1, 0.7, **{name.format(2): 0.9, name.format(10): 0.5}),
    ]
    _, summary = make(evals=rows)
    assert levels(summary) == (
        "By level: level 2 from 0.400 to 0.900, level 10 from 0.000 to 0.500."
    )


def test_lengths_and_rewards(make: Make) -> None:
    rows = [
        {
            "step": s,
            "completion_length/mean": 10.0 * s,
            "completion_length/max": 100 - s,
            "reward/mean": s / 10,
        }
        for s in range(1, 9)
    ]
    assert lengths(*make(learner=rows)) == (
        "Completions went from 30.0 to 60.0 tokens on average, rewards from 0.300 to 0.600 "
        "(means of the first and the last 5 steps); the longest that trained had 99."
    )


def test_lengths_of_a_few_steps(make: Make) -> None:
    rows = [{"step": s, "completion_length/mean": 10.0 * s} for s in (1, 2)]
    text = lengths(*make(learner=rows))
    assert text.startswith("Completions had 15.0 tokens on average")


def aged(step: int, most: int | None, bound: int = 4, **fields: Any) -> dict[str, Any]:
    row = {"step": step, "staleness/mean": 1.5, "staleness/max": most, "staleness/bound": bound}
    return {**row, **fields}


def test_staleness_and_suspensions(make: Make) -> None:
    share = {"versions_per_rollout/three_or_more_frac": 0.25}
    given = make(
        learner=[aged(1, 3, **share), aged(2, 4, **share)],
        buffer=[{"leases/suspended": 3}, {"leases/suspended": 1200}],
    )
    assert staleness(*given) == (
        "Tokens trained 1.50 versions after the one that sampled them on average and 4 at most; "
        "the bound of 4 was kept at every step. 25 % of the trained rollouts span three versions "
        "or more. Rollouts were suspended 1,203 times."
    )


@pytest.mark.parametrize(
    ("most", "said"),
    [(5, "was exceeded at 1 of 2 steps"), (None, "was kept is not recorded for every step")],
)
def test_a_bound_that_was_not_kept(make: Make, most: int | None, said: str) -> None:
    text = staleness(*make(learner=[aged(1, 3), aged(2, most)]))
    assert said in text and "suspended" not in text


def test_what_was_left_out(make: Make) -> None:
    given, _ = make(
        buffer=[
            {"groups/closed": 10, "groups/zero_variance": 2, "groups/dropped_overdue": 1},
            {"groups/closed": 10, "groups/zero_variance": 3, "groups/expired": 4},
            {"groups/removed": 2, "reward/errors": 3, "reward/timeouts": 1},
        ],
        learner=[
            {"step": 1, "staleness/masked_tokens": 30, "batch/num_tokens": 500},
            {"step": 2, "staleness/masked_tokens": 20, "batch/num_tokens": 500},
        ],
    )
    assert left_out(given) == (
        "5 of 20 closed groups (25 %) had equal rewards throughout and did not train; 1 group was "
        "dropped as overdue; 2 groups were removed from a full buffer; 3 rollouts got no reward "
        "because it failed, 1 of them for time; 4 rollouts were not done when their groups closed; "
        "50 tokens of the batches (5.0 %) were masked because they were older than the bound."
    )


def test_nothing_left_out(make: Make) -> None:
    view, _ = make(learner=[{"step": 1, "staleness/masked_tokens": 0}])
    assert left_out(view) == "Nothing was masked or dropped for its age."


def test_groups_without_variance_may_train(make: Make) -> None:
    rows = [{"groups/closed": 4, "groups/zero_variance": 1}]
    view, _ = make(buffer=rows, buffer__keep_zero_variance=True)
    assert left_out(view) == "1 of 4 closed groups (25 %) had equal rewards throughout."


def test_the_share_that_trained(make: Make) -> None:
    _, summary = make(learner=[{"step": 1, "tokens": 300}], actor=[{"tokens/sampled": 1200}])
    assert trained_share(summary).startswith("Of 1,200 sampled tokens 300 trained (25 %); evals")


def test_tokens_may_train_more_than_once(make: Make) -> None:
    _, summary = make(learner=[{"step": 1, "tokens": 1500}], actor=[{"tokens/sampled": 1200}])
    assert trained_share(summary) == (
        "1,200 tokens were sampled and 1,500 trained: some more than once."
    )


@pytest.mark.parametrize(
    ("mode", "actor", "learner", "said"),
    [
        ("async", 0.02, 0.40, "sampling set the pace"),
        ("async", 0.40, 0.02, "training set the pace"),
        ("async", 0.05, 0.08, "both were busy"),
        ("async", 0.35, 0.30, "both waited"),
        ("sync", 0.02, 0.40, "in sync mode they take turns"),
    ],
)
def test_who_waited(make: Make, mode: str, actor: float, learner: float, said: str) -> None:
    given = make(
        mode=mode,
        learner=[{"step": 1, "learner/idle_frac": learner}],
        actor=[{"actor/idle_frac": actor}],
        buffer=[
            {"wall_s": 10.0, "admission/blocked_frac": 0.0},
            {"wall_s": 20.0, "admission/blocked_frac": 0.4},
        ],
    )
    text = waiting(*given)
    assert text.startswith("The actors waited ") and f": {said}." in text
    assert "For 20 % of the time the staleness bound held new groups back." in text


def test_waiting_that_is_not_recorded(make: Make) -> None:
    assert waiting(*make(learner=[{"step": 1, "learner/idle_frac": 0.1}])) == ""


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"journal/bytes": 3 << 20}, "The journal had 3.0 MiB at the end."),
        (
            {"journal/bytes": 5 << 19, "journal/compactions": 1},
            "The journal had 2.5 MiB at the end, after 1 compaction.",
        ),
        ({"journal/bytes": 0}, ""),
        ({}, ""),
    ],
)
def test_how_large_the_journal_was(make: Make, row: dict[str, Any], said: str) -> None:
    view, _ = make(buffer=[{"journal/bytes": 7}, row] if row else [])
    assert journal(view) == said


def test_the_command_and_its_code(make: Make) -> None:
    view, _ = make()
    assert (command(view), code(view)) == ("", "")
    overrides = (
        "- experiment=demo\n- run.name=x\n- run.dir=/tmp/x\n- task.levels=[1,2]\n- a='b c'\n"
    )
    (view.run_dir.config / "overrides.yaml").write_text(overrides)
    assert shlex.split(command(view)) == [
        "async_r1", "launch", "experiment=demo", "task.levels=[1,2]", "a='b c'",
    ]  # fmt: skip
    write_json(view.run_dir.environment, {"git_revision": "0123456789abcdef"})
    assert code(view) == "(code at 0123456789ab)"
    (view.run_dir.root / "code.diff").write_text("diff")
    assert code(view) == "(code at 0123456789ab with the changes in code.diff)"


@pytest.mark.parametrize("overrides", ["not: a list\n", "- [", "a\n", ""])
def test_overrides_that_are_no_list_give_no_command(make: Make, overrides: str) -> None:
    view, _ = make()
    (view.run_dir.config / "overrides.yaml").write_text(overrides)
    assert command(view) in ("", "async_r1 launch")


def test_the_page_begins_with_the_words(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=30)
    page = write_report(run).read_text()
    view = RunView(run)
    summary = summarize(view)
    assert page.index('id="words"') < page.index('class="tiles"')
    text = unescape(page).replace("\u00a0", " ")
    for sentence in (what(view, summary), accuracy(view, summary), waiting(view, summary)):
        assert sentence and sentence in text
    assert "async_r1 launch experiment=nano_arithmetic seed=0" in text
    assert "Nothing stood out" in text


def test_a_run_without_a_row_says_little(make: Make) -> None:
    html = words_section(*make())
    assert "None" not in html and "nan" not in html
    assert "Held-out accuracy was not measured." in html
    assert "Nothing stood out" not in html
