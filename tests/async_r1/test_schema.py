"""Typed construction: what is built equals what was written, and errors name field and rule."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from async_r1.config import Config, SftPhase
from async_r1.errors import ConfigError
from async_r1.schema import build, nearest, opt, to_dict, walk


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = opt(0.5, doc="a rate", gt=0, le=1)
    kind: Literal["fast", "slow"] = opt("fast", doc="a kind")
    names: list[str] = opt(["a"], doc="names")
    shares: dict[str, float] = opt({}, doc="shares")
    limit: int | None = opt(None, doc="a limit", ge=3)


@dataclass(frozen=True, kw_only=True)
class Outer:
    path: str
    count: int = opt(1, doc="a count", ge=1)
    active: bool = opt(False, doc="a switch")
    anything: dict[str, Any] = opt({}, doc="passed on")
    inner: Inner = field(default_factory=Inner)
    many: list[Inner] = opt([], doc="more")


def test_round_trip_of_a_changed_config() -> None:
    config = build(
        Config,
        {
            "seed": 3,
            "learner": {"lr": 1, "betas": [0.5, 0.9], "deepspeed": {"x": {"y": [1]}}},
            "sft": {"phases": [{"updates": 7, "styles": {"blunt": 1}}]},
        },
    )
    assert build(Config, to_dict(config)) == config
    assert type(config.learner.lr) is float
    assert config.sft.phases == [SftPhase(updates=7, styles={"blunt": 1.0})]
    assert build(Config, to_dict(Config())) == Config()


def test_defaults_are_not_shared() -> None:
    assert Inner().names is not Inner().names


ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"cuont": 2}, "unknown option cuont; did you mean count?"),
    ({"zzz": 2}, "unknown option zzz"),
    ({"inner": {"rat": 1}}, "unknown option inner.rat; did you mean inner.rate?"),
    ({"inner": 3}, "inner must be a section, got 3"),
    ({"count": 0}, "count must be >= 1, got 0"),
    ({"count": 1.5}, "count must be an integer, got 1.5"),
    ({"count": True}, "count must be an integer, got True"),
    ({"count": "2"}, "count must be an integer, got '2'"),
    ({"count": None}, "count must be an integer, got None"),
    ({"active": 1}, "active must be true or false, got 1"),
    ({"path": 7}, "path must be text, got 7"),
    ({"inner": {"rate": 0}}, "inner.rate must be > 0 and <= 1, got 0.0"),
    ({"inner": {"rate": 2}}, "inner.rate must be > 0 and <= 1, got 2.0"),
    ({"inner": {"rate": float("nan")}}, "inner.rate must be a finite number, got nan"),
    ({"inner": {"rate": float("inf")}}, "inner.rate must be a finite number, got inf"),
    ({"inner": {"rate": "x"}}, "inner.rate must be a number, got 'x'"),
    (
        {"inner": {"kind": "fats"}},
        "inner.kind must be one of 'fast', 'slow', got 'fats'; did you mean 'fast'?",
    ),
    ({"inner": {"kind": None}}, "inner.kind must be one of 'fast', 'slow', got None"),
    ({"inner": {"names": "a"}}, "inner.names must be a list, got 'a'"),
    ({"inner": {"names": ["a", 2]}}, "inner.names[1] must be text, got 2"),
    ({"inner": {"shares": [1]}}, "inner.shares must be a mapping, got [1]"),
    ({"inner": {"shares": {"a": "b"}}}, "inner.shares.a must be a number, got 'b'"),
    ({"inner": {"limit": 2}}, "inner.limit must be >= 3, got 2"),
    ({"many": [{}, {"rate": 3}]}, "many[1].rate must be > 0 and <= 1, got 3.0"),
    ({"anything": 1}, "anything must be a mapping, got 1"),
]


@pytest.mark.parametrize(("values", "text"), ERRORS, ids=[text for _, text in ERRORS])
def test_errors_are_one_line_with_field_rule_and_value(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Outer, {"path": "", **values})
    assert str(caught.value) == text


def test_required_option() -> None:
    with pytest.raises(ConfigError, match=r"^path is required$"):
        build(Outer, {})
    with pytest.raises(ConfigError, match=r"^config must be a section, got \[\]$"):
        build(Outer, [])  # type: ignore[arg-type]


def test_bounds_admit_their_edges_and_none() -> None:
    built = build(Outer, {"path": "", "count": 1, "inner": {"rate": 1, "limit": None}})
    assert (built.count, built.inner.rate, built.inner.limit) == (1, 1.0, None)


def test_walk_yields_every_leaf_with_its_default() -> None:
    leaves = {name: default for name, _, default in walk(Inner)}
    assert leaves == {
        "rate": 0.5,
        "kind": "fast",
        "names": ["a"],
        "shares": {},
        "limit": None,
    }
    names = [name for name, _, _ in walk(Config)]
    assert len(names) == len(set(names)) and "reward.accuracy" in names


def test_every_option_of_the_config_is_documented_and_its_default_keeps_its_own_rules() -> None:
    for name, option, _ in walk(Config):
        assert option.metadata.get("doc"), name
    values = to_dict(Config())
    assert to_dict(build(Config, values)) == values
    assert {f.name for f in dataclasses.fields(Config)} == set(values)


def test_nearest() -> None:
    assert nearest("unifrom", ["fifo", "uniform"]) == "uniform"
    assert nearest("xyz", ["fifo", "uniform"]) is None
