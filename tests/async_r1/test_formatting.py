"""Numbers as text."""

import pytest

from async_r1 import formatting as f


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f.number(0.71249), "0.712"),
        (f.number(None), "-"),
        (f.count(12345.4), "12,345"),
        (f.count(0), "0"),
        (f.compact(999_999), "999,999"),
        (f.compact(1_234_567), "1.23 M"),
        (f.compact(4.5e9), "4.50 G"),
        (f.percent(0.0), "0 %"),
        (f.percent(0.043), "4.3 %"),
        (f.percent(0.0996), "10 %"),
        (f.percent(1.0), "100 %"),
        (f.significant(0.001234), "0.00123"),
        (f.significant(1.0), "1.00"),
        (f.significant(4), "4"),
        (f.significant(12345.6), "12,346"),
        (f.duration(0.4), "0 s"),
        (f.duration(59.4), "59 s"),
        (f.duration(59.6), "1 min 00 s"),
        (f.duration(3599.6), "1 h 00 min"),
        (f.duration(7440), "2 h 04 min"),
        (f.versions({"policy_version": 3}), "v3"),
        (f.versions({"policy_version": 3, "policy_version_max": 3}), "v3"),
        (f.versions({"policy_version": 3, "policy_version_max": 5}), "v3-5"),
        (f.versions(None), "-"),
        (f.arrow("1", "2"), "1 → 2"),
        (f.arrow("1", "1"), "1"),
        (f.plural("step", 1), "step"),
        (f.plural("step", 0), "steps"),
    ],
)
def test_text(text: str, expected: str) -> None:
    assert text == expected


def test_sparkline_scales_averages_and_leaves_gaps() -> None:
    assert f.sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert f.sparkline([0.0, 0.5, 1.0], 8, 0.0, 1.0) == "▁▅█"
    assert f.sparkline([0, 0, 4, 4, 8, 8, 8, 8], 4) == "▁▅██"
    assert f.sparkline([0, None, 1], 8) == "▁ █"
    assert f.sparkline([2.0, 2.0], 8) == "▅▅"
    assert f.sparkline([-5.0, 5.0], 8, 0.0, 1.0) == "▁█"
    assert f.sparkline([], 8) == f.sparkline([None], 8) == ""
    assert len(f.sparkline(list(range(1000)), 30)) == 30
