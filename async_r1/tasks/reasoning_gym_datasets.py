"""reasoning-gym's datasets by name, parameters and curriculum level, with one-line errors."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from async_r1.errors import TaskError
from async_r1.schema import opt
from async_r1.tasks.answers import AnswerFrom
from async_r1.tasks.options import did_you_mean, one_line

_OURS = ("seed", "size")  # parameters that the task itself sets


@dataclass(frozen=True, kw_only=True)
class Options:
    """`task.options` of the task `reasoning_gym`."""

    dataset: Any = opt("chain_sum", doc="a dataset, a list of them, or {name: weight}")
    parameters: dict[str, Any] = opt(
        {}, doc="parameters of the dataset; of several datasets {name: {parameter: value}}"
    )
    curriculum: list[str] = opt(
        [], doc="attributes of the curriculum that follow the level; empty: all"
    )
    ranges: Literal["upper_bound", "inclusive"] = opt(
        "upper_bound", doc="a range of a level: its own part, or with those of lower levels"
    )
    size: int = opt(
        500, ge=1, doc="items of a dataset that makes them all at once; then it is seeded anew"
    )
    partial: bool = opt(False, doc="keep the dataset's fraction in place of right or wrong")
    answer_from: AnswerFrom = opt("tags", doc="where a completion has its answer")


def weights(given: Any) -> dict[str, float]:
    """Weight of each dataset that the option names.

    Raises:
        TaskError: the option has another form, a dataset is unknown, a weight is not positive.
    """
    where = "task.options.dataset"
    named = {given: 1.0} if isinstance(given, str) else given
    if isinstance(named, list | tuple):
        named = dict.fromkeys(named, 1.0) if all(isinstance(n, str) for n in named) else None
    if not isinstance(named, Mapping) or not named:
        raise TaskError(f"{where} must be a name, a list of names or {{name: weight}}, got {given}")
    registry = {name for name in _library().DATASETS if name != "composite"}
    for name, weight in named.items():
        if name not in registry:
            raise TaskError(
                f"{where}: reasoning-gym has no dataset {name!r}"
                f"{did_you_mean(str(name), sorted(registry))}"
            )
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight > 0:
            raise TaskError(f"{where}: the weight of {name} must be > 0, got {weight!r}")
    return {str(name): float(weight) for name, weight in named.items()}


def num_levels(name: str) -> int:
    """Levels of the dataset's curriculum, beginning with 0; 1 if it has none."""
    if name not in _library().CURRICULA:
        return 1
    attributes = _library().CURRICULA[name]().attributes.values()
    return max((len(attribute.levels) for attribute in attributes), default=1)


def make(name: str, options: Options, seed: int, level: int | None) -> Any:
    """The dataset.

    Args:
        level: of the curriculum; None: `options.parameters` alone.

    Raises:
        TaskError: an unknown or bad parameter or attribute, a dataset without a curriculum.
    """
    several = not isinstance(options.dataset, str)
    where = "task.options.parameters" + (f".{name}" if several else "")
    parameters = options.parameters.get(name, {}) if several else options.parameters
    _, config_cls = _library().DATASETS[name]
    known = [field.name for field in dataclasses.fields(config_cls) if field.name not in _OURS]
    if several:
        _check_names(options.parameters, _names(options.dataset), "task.options.parameters")
    if not isinstance(parameters, Mapping):
        raise TaskError(f"{where} must be a mapping, got {parameters!r}")
    _check_names(parameters, known, where)
    values = {} if level is None else _level_values(name, options, level)
    for key in values.keys() & parameters.keys():
        raise TaskError(
            f"{where}.{key} is also set by the curriculum: leave it or task.levels out, or name "
            f"other attributes in task.options.curriculum"
        )
    settings = {**parameters, **values, "seed": seed, "size": options.size}
    try:
        return _library().create_dataset(name, **settings)
    except Exception as error:  # their checks are assertions, but a wrong type raises anything
        shown = ", ".join(f"{key}={value}" for key, value in settings.items() if key not in _OURS)
        at = "" if level is None else f" at level {level}"
        raise TaskError(f"{where}: {name}{at} refuses {shown}: {one_line(error)}") from error


def _level_values(name: str, options: Options, level: int) -> dict[str, Any]:
    if name not in _library().CURRICULA:
        raise TaskError(f"reasoning-gym's {name} has no curriculum: leave task.levels empty")
    curriculum = _library().CURRICULA[name]()
    _check_names(options.curriculum, list(curriculum.attributes), "task.options.curriculum")
    if not 0 <= level < num_levels(name) and isinstance(options.dataset, str):
        raise TaskError(
            f"task.levels of reasoning-gym's {name} are 0 to {num_levels(name) - 1}, got {level}"
        )
    from reasoning_gym.coaching.base_curriculum import DefaultCurriculumContext, RangeAttributeMode

    context = DefaultCurriculumContext(mode=RangeAttributeMode(options.ranges))
    values: dict[str, Any] = {}
    for key in options.curriculum or curriculum.attributes:
        attribute = curriculum.attributes[key]
        curriculum.set_attr_level(key, max(0, min(level, len(attribute.levels) - 1)))
        value = context.get_attr_value(curriculum, attribute)
        if hasattr(attribute, "field_name"):
            values[attribute.field_name] = value
        else:
            bounds = value if isinstance(value, list | tuple) else [value]
            values[attribute.lower_field_name] = min(bounds)
            values[attribute.upper_field_name] = max(bounds)
    return values


def _check_names(given: Any, known: list[str], where: str) -> None:
    for key in given:
        if key in _OURS and key not in known:
            raise TaskError(f"{where}.{key} is not yours to set: see task.seed, task.num_train")
        if key not in known:
            raise TaskError(f"{where}: unknown {key!r}{did_you_mean(str(key), known)}")


def _names(dataset: Any) -> list[str]:
    return list(dataset)


@cache
def _library() -> Any:
    try:
        from reasoning_gym import factory
    except ImportError as error:
        raise TaskError(
            f"task reasoning_gym needs the package reasoning-gym: "
            f"pip install 'async_r1[reasoning-gym]' ({one_line(error)})"
        ) from error
    return factory
