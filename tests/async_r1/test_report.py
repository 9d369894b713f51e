"""The report: well-formed, self-contained, harmless, and true to the rows."""

import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from async_r1.chart import AXIS_KINDS, Extent, actor_series, time_unit
from async_r1.errors import RunDirError
from async_r1.metrics import read_rows
from async_r1.report import main, write_report
from async_r1.report_charts import charts
from async_r1.run_dir import RunDir
from async_r1.view import ACTOR_GONE_VERSIONS, RunView
from tests.async_r1.page import EVIL, Checker
from tests.async_r1.synthetic_run import make_run, write_rows

CHARTS = [
    "reward",
    "accuracy",
    "accuracy-by-level",
    "length",
    "staleness",
    "idle",
    "throughput",
    "versions",
    "ess",
    "mismatch-kl",
    "entropy",
    "left-out",
    "success",
    "selection",
    "admission",
    "replay",
]


X_LABELS = {
    "step": "optimizer step",
    "time": "time since launch [s]",
    "tokens": "sampled tokens",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    overrides = {17: {"staleness/max": 6}, 20: {"ratio/ess": None}, 22: {"ratio/ess": None}}
    path = tmp_path_factory.mktemp("report") / "run"
    return make_run(path, steps=40, total_steps=100, actors=2, overrides=overrides)


@pytest.fixture(scope="module")
def page(run: RunDir) -> str:
    assert write_report(run.root) == run.report
    return run.report.read_text(encoding="utf-8")


def figures(page: str) -> dict[str, dict[str, ET.Element]]:
    """SVG elements by chart and axis."""
    found: dict[str, dict[str, ET.Element]] = {}
    for name, figure in re.findall(r'<figure id="chart-([a-z-]+)">(.*?)</figure>', page, re.S):
        for axis, svg in re.findall(r'<div class="by-(\w+)">(<svg.*?</svg>)</div>', figure, re.S):
            found.setdefault(name, {})[axis] = ET.fromstring(svg)
    return found


def points(svg: ET.Element, label: str) -> list[tuple[float, float]]:
    """Values of a series, through the ranges on the element, in order of x."""
    scales = []
    for kind in ("x", "y"):
        low, high, start, end = map(float, svg.get(f"data-{kind}", "").split(","))
        scales.append((low, (high - low) / (end - start), start))
    (group,) = [g for g in svg.findall("g") if g.get("data-name") == label]
    drawn = {pair for line in group.findall("polyline") for pair in line.get("points", "").split()}
    drawn |= {f"{dot.get('cx')},{dot.get('cy')}" for dot in group.findall("circle")}
    values = [
        tuple(
            low + slope * (float(pixel) - start)
            for pixel, (low, slope, start) in zip(pair.split(","), scales, strict=True)
        )
        for pair in drawn
    ]
    return sorted(values)  # type: ignore[arg-type]


def assert_points(
    found: list[tuple[float, float]], xs: list[float], ys: list[float], size: float
) -> None:
    assert [x for x, _ in found] == pytest.approx(xs, abs=0.01)
    assert [y for _, y in found] == pytest.approx(ys, abs=size * 1e-4)


def test_the_page_is_well_formed_and_its_ids_are_unique(page: str) -> None:
    checker = Checker(page)
    assert len(set(checker.ids)) == len(checker.ids)
    assert page.startswith("<!DOCTYPE html>")
    links = {a["href"] for tag, a in checker.tags if tag == "a"}
    assert links == {"#charts", "#numbers", "#rollouts", "#configuration"}
    assert {link[1:] for link in links if link} <= set(checker.ids)


def test_nothing_is_fetched_and_only_its_own_script_may_run(page: str) -> None:
    checker = Checker(page)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page.replace("// ", ""))
    assert not {"src", "srcset", "action", "data"} & {name for _, a in checker.tags for name in a}
    assert not [name for _, a in checker.tags for name in a if name.startswith("on")]
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [
        a["content"] for _, a in checker.tags if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert "default-src 'none'" in policy and f"script-src 'sha256-{digest}'" in policy


def test_every_chart_is_drawn_over_steps_and_over_time(page: str) -> None:
    found = figures(page)
    assert list(found) == CHARTS
    for name, by_axis in found.items():
        assert tuple(by_axis) == AXIS_KINDS
        for axis, svg in by_axis.items():
            assert svg.get("role") == "img"
            assert svg.findtext("title") and svg.findtext("desc")
            labels = [t.text for t in svg.findall("text") if t.get("class") == "label"]
            assert labels[0] == X_LABELS[axis] and labels[1], name
            assert len([t for t in svg.findall("text") if "tick" in t.get("class", "")]) > 6
        legend = re.search(rf'id="chart-{name}">.*?<ul>(.*?)</ul>', page, re.S)
        assert legend is not None
        drawn = [g.get("data-name") for g in by_axis["step"].findall("g")]
        assert re.findall(r"<li[^>]*>(.*?) <b>", legend[1]) == drawn


@pytest.mark.parametrize(
    ("chart", "label", "metric"),
    [
        ("reward", "per step", "reward/mean"),
        ("length", "mean", "completion_length/mean"),
        ("length", "90th percentile", "completion_length/p90"),
        ("length", "longest", "completion_length/max"),
        ("staleness", "mean", "staleness/mean"),
        ("staleness", "max", "staleness/max"),
        ("staleness", "bound", "staleness/bound"),
        ("idle", "learner", "learner/idle_frac"),
        ("throughput", "trained", "perf/tokens_per_s"),
        ("versions", "three or more", "versions_per_rollout/three_or_more_frac"),
        ("ess", "ESS", "ratio/ess"),
        ("mismatch-kl", "KL", "mismatch_kl/mean"),
        ("entropy", "entropy", "entropy/mean"),
        ("left-out", "groups without variance", "reward/zero_std_frac"),
        ("left-out", "cut rollouts", "completion_length/clip_frac"),
    ],
)
def test_learner_lines_are_the_rows(
    run: RunDir, page: str, chart: str, label: str, metric: str
) -> None:
    rows = [r for r in read_rows(run.metrics_file("learner")) if r[metric] is not None]
    assert len(rows) == (38 if metric == "ratio/ess" else 40)
    ys = [row[metric] for row in rows]
    by_axis = figures(page)[chart]
    size = max(10 * max(ys), 1e-9)
    assert_points(points(by_axis["step"], label), [r["step"] for r in rows], ys, size)
    walls = sorted(zip([row["wall_s"] for row in rows], ys, strict=True))
    found = points(by_axis["time"], label)
    assert [x for x, _ in found] == pytest.approx([x for x, _ in walls], abs=0.03)
    assert [y for _, y in found] == pytest.approx([y for _, y in walls], abs=size * 1e-4)


@pytest.mark.parametrize(
    ("chart", "label", "name", "size"),
    [
        ("selection", "by length", "selection/ks_length/with_variance", 1),
        ("selection", "by length, tokens", "selection/ks_tokens/with_variance", 1),
        ("selection", "by level", "selection/ks_level/with_variance", 1),
        ("replay", "so far", "buffer/samples_per_insert", 1),
        ("success", "level 2", "curriculum/success/level_2", 1),
    ],
)
def test_the_lines_of_the_buffer_are_its_rows(
    run: RunDir, page: str, chart: str, label: str, name: str, size: float
) -> None:
    rows = read_rows(run.metrics_file("buffer"))
    by_axis, ys = figures(page)[chart], [row[name] for row in rows]
    assert_points(points(by_axis["step"], label), [row["step"] for row in rows], ys, size)
    found = points(by_axis["tokens"], label)
    assert [y for _, y in found] == pytest.approx(ys, abs=1e-4)
    assert [x for x, _ in found] == pytest.approx([r["tokens/received"] for r in rows], rel=1e-4)


def test_the_share_without_variance_over_sampled_tokens(run: RunDir, page: str) -> None:
    learner = read_rows(run.metrics_file("learner"))
    found = points(figures(page)["left-out"]["tokens"], "groups without variance")
    assert [x for x, _ in found] == pytest.approx([20_000 * r["step"] for r in learner], rel=1e-4)


def test_what_became_of_what_was_generated(page: str) -> None:
    for row in (
        "<th>generated</th><td>12,800</td><td>760,000</td><td>100 %</td><td>59.4</td>",
        "<th>trained</th><td>6,800</td><td>374,000</td><td>49 %</td><td>59.4</td>",
        "<th>expired with their group</th><td>1,400</td><td>98,000</td><td>13 %</td><td>59.4</td>",
        "<th>wait in the table</th><td>96</td><td>-</td><td>-</td><td>-</td>",
        "<th>level 4</th><td>392,000</td><td>25 %</td><td>25 %</td><td>50 %</td>",
        "<th>46 to 63</th><td>360,000</td><td>75 %</td><td>25 %</td><td>0 %</td>",
        "<th>64 to 90</th><td>392,000</td><td>25 %</td><td>25 %</td><td>50 %</td>",
        "<th>tokens by length</th><td>0.050</td><td>0.070</td><td>0.100</td>",
    ):
        assert row in page.replace("\u00a0", " ")
    assert "dropped: overdue" not in page


def test_a_run_that_sampled_unrecorded_tokens_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=2)
    run.metrics_file("buffer").unlink()
    by_axis = figures(write_report(run).read_text())["reward"]
    empty = [
        axis for axis in AXIS_KINDS if "nothing recorded" in ET.tostring(by_axis[axis]).decode()
    ]
    assert empty == ["tokens"]


def test_a_longer_run_has_its_time_axis_in_minutes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=100)
    rows = read_rows(run.metrics_file("learner"))
    svg = figures(write_report(run).read_text())["reward"]["time"]
    labels = [t.text for t in svg.findall("text") if t.get("class") == "label"]
    assert labels[0] == "time since launch [min]"
    found = points(svg, "per step")
    assert [x for x, _ in found] == pytest.approx([r["wall_s"] / 60 for r in rows], abs=1e-3)


@pytest.mark.parametrize("level", [None, 1, 5])
def test_held_out_lines_are_the_evals(run: RunDir, page: str, level: int | None) -> None:
    evals = read_rows(run.metrics_file("eval"))
    chart, label, metric = (
        ("accuracy", "held out", "eval/accuracy")
        if level is None
        else ("accuracy-by-level", f"level {level}", f"eval/accuracy/level_{level}")
    )
    ys = [row[metric] for row in evals]
    by_axis = figures(page)[chart]
    assert_points(points(by_axis["step"], label), [r["policy_version"] for r in evals], ys, 10)
    found = points(by_axis["time"], label)
    assert [x for x, _ in found] == pytest.approx([r["wall_s"] for r in evals], abs=0.03)


def test_actor_lines_combine_the_actors_of_a_version(run: RunDir, page: str) -> None:
    a, b = (
        {row["policy_version"]: row for row in read_rows(run.metrics_file(f"actor_{i:03d}"))}
        for i in range(2)
    )
    steps = sorted(a)
    both = [[rows[version] for rows in (a, b) if version in rows] for version in steps]
    assert len(both[0]) == 1 and len(both[1]) == 2
    rate = [sum(row["perf/tokens_per_s"] for row in rows) for rows in both]
    idle = [sum(row["actor/idle_frac"] for row in rows) / len(rows) for rows in both]
    found = figures(page)
    assert_points(points(found["throughput"]["step"], "sampled"), steps, rate, 1e5)
    assert_points(points(found["idle"]["step"], "actors, mean"), steps, idle, 10)


def test_an_actor_counts_between_its_rows_and_a_little_longer(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run")
    last = 3 + ACTOR_GONE_VERSIONS
    write_rows(run, "actor_000", [{"policy_version": v, "x": 1.0} for v in range(1, last + 3)])
    write_rows(run, "actor_001", [{"policy_version": v, "x": 10.0} for v in (1, 3)])
    series = actor_series(RunView(run), "x", sum)
    assert [p.value for p in series] == [11.0] * last + [1.0] * 2


def test_where_the_bound_was_exceeded_is_marked_and_said(page: str) -> None:
    assert points(figures(page)["staleness"]["step"], "over the bound") == [
        (pytest.approx(17, abs=0.01), pytest.approx(6, abs=0.01))
    ]
    text = " ".join(Checker(page).text)
    assert "no: exceeded at 1 of 40 steps, first at step 17" in text
    assert "exceeded at 1 of 40 steps" in text
    assert page.count('class="bad"') == 2


def test_a_kept_bound_is_said_too(tmp_path: Path) -> None:
    page = write_report(make_run(tmp_path / "run", steps=12)).read_text()
    assert "<th>bound kept at every step</th><td>yes</td>" in page
    assert 'class="bad"' not in page and "over the bound" not in page


def test_what_others_wrote_is_text_and_nothing_else(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=3)
    for overrides in (EVIL, f"- {json.dumps(EVIL)}\n"):
        (run.config / "overrides.yaml").write_text(overrides)
        config = json.loads(run.resolved.read_text())
        config["config"]["experiment"] = EVIL
        config["config"]["model"]["path"] = EVIL
        config["config"]["task"]["name"] = EVIL
        run.resolved.write_text(json.dumps(config))
        status = {"state": "failed", "role": EVIL, "error": EVIL, "log": EVIL}
        run.status.write_text(json.dumps(status))
        checker = Checker(write_report(run).read_text())
        assert [tag for tag, _ in checker.tags].count("script") == 1
        assert not [tag for tag, _ in checker.tags if tag == "img"]
        assert "".join(checker.text).count(EVIL) > 3


def test_configuration_and_numbers_are_on_the_page(run: RunDir, page: str) -> None:
    text = " ".join(Checker(page).text)
    assert "experiment=nano_arithmetic" in text
    assert '"groups_per_update": 32' in text
    for row in (read_rows(run.metrics_file("eval"))[0], read_rows(run.metrics_file("eval"))[-1]):
        assert f"<td>{row['eval/accuracy/level_3']:.3f}</td>" in page


def test_a_run_that_only_began_has_a_report(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=1, total_steps=50)
    for path in [*run.metrics.iterdir(), *run.rollouts.iterdir(), *run.roles.iterdir()]:
        path.unlink()
    run.status.unlink()
    page = write_report(run).read_text()
    text = " ".join(Checker(page).text)
    assert text.count("nothing recorded") == len(AXIS_KINDS) * len(CHARTS)
    assert "No rollout was kept." in text
    assert not re.search(r"\b(nan|None|null)\b", text.split("Full configuration")[0])


def test_long_runs_stay_small(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=1, total_steps=20000)
    rows = [
        {"step": s, "policy_version": s - 1, "wall_s": float(s), "reward/mean": s % 7 / 7}
        for s in range(2, 20001)
    ]
    write_rows(run, "learner", rows)
    view = RunView(run)
    (reward,) = [chart for chart in charts(view) if chart.name == "reward"]
    assert len(reward.svg("step", Extent(view.step, view.recorded_s))) < 100_000


@pytest.mark.parametrize(
    ("seconds", "unit"), [(0, (1.0, "s")), (300, (60.0, "min")), (86400, (3600.0, "h"))]
)
def test_time_unit(seconds: float, unit: tuple[float, str]) -> None:
    assert time_unit(seconds) == unit


def test_main(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", steps=2)
    assert main([str(run.root)]) == 0
    assert capsys.readouterr().out == f"{run.report}\n"
    assert main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path} holds no run") and error.count("\n") == 1
    with pytest.raises(RunDirError):
        write_report(tmp_path)
