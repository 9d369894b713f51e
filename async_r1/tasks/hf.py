"""The task `hf`: a dataset of the Hugging Face hub or of the disk, read by `datasets`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from async_r1.config_task import TaskConfig
from async_r1.errors import TaskError
from async_r1.schema import nearest, opt
from async_r1.tasks.options import did_you_mean, one_line, read_options
from async_r1.tasks.row_task import RowTask
from async_r1.tasks.rows import RowOptions

_READERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}
_SCAN_ROWS = 1000  # rows that a scan holds at once


@dataclass(frozen=True, kw_only=True)
class HfOptions(RowOptions):
    """`task.options` of the task `hf`."""

    name: str = opt("", doc="dataset of the hub, or a path: a saved dataset, a folder or a file")
    config: str = opt("", doc="its configuration, such as main")
    train_split: str = opt("train", doc="split that trains")
    eval_split: str = opt("", doc="split that is held out; empty: eval_frac of train_split")
    eval_name: str = opt("", doc="dataset of eval_split, if it is another one")


class Hf(RowTask):
    """The task `hf`; its options are `HfOptions`."""

    def __init__(self, cfg: TaskConfig):
        options = read_options(HfOptions, cfg)
        if not options.name:
            raise TaskError("task.options.name must name a dataset, got ''")
        if options.eval_name and not options.eval_split:
            raise TaskError("task.options.eval_name needs task.options.eval_split")
        train = DatasetRows(options, options.name, options.config, options.train_split)
        evals = None
        if options.eval_split:
            name = options.eval_name or options.name
            config = "" if options.eval_name else options.config
            evals = DatasetRows(options, name, config, options.eval_split)
        super().__init__(cfg, options, train, evals)


class DatasetRows:
    """The rows of one split, numbered from 0; memory-mapped by `datasets`."""

    unit = "row"

    def __init__(self, options: RowOptions, name: str, config: str, split: str) -> None:
        self.label = f"{name}[{split}]"
        self._options = options
        self._name, self._config, self._split = name, config, split

    def scan(self) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
        """Every row.

        Raises:
            TaskError: the dataset cannot be read, or lacks a split or a column.
        """
        start = 0
        for columns in self._dataset.iter(batch_size=_SCAN_ROWS):
            names, values = list(columns), list(columns.values())
            for row in zip(*values, strict=True):
                yield start, dict(zip(names, row, strict=True))
                start += 1

    def read(self, number: int) -> Mapping[str, Any]:
        """One row."""
        record: Mapping[str, Any] = self._dataset[number]
        return record

    @cached_property
    def _dataset(self) -> Any:
        dataset = self._load()
        for option in ("prompt_key", "answer_key", "level_key", "id_key"):
            key, columns = getattr(self._options, option), dataset.column_names
            optional = (option, key) == ("level_key", RowOptions.level_key)
            if key and key not in columns and not optional:
                raise TaskError(
                    f"task.options.{option}: {self.label} has no column {key!r}"
                    f"{did_you_mean(key, columns)}"
                )
        return dataset

    def _load(self) -> Any:
        try:
            import datasets
        except ImportError as error:
            raise TaskError(
                f"task hf needs the package datasets: pip install 'async_r1[hf]' "
                f"({one_line(error)})"
            ) from error
        path = Path(self._name).expanduser()
        try:
            if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
                found = datasets.load_from_disk(str(path))
            elif path.is_file():
                found = datasets.load_dataset(_reader(path), data_files=str(path))
            else:
                name = str(path) if path.is_dir() else self._name
                found = datasets.load_dataset(name, self._config or None)
        except TaskError:
            raise
        except Exception as error:  # of the library, of the network, of the file's format
            raise TaskError(f"cannot read dataset {self._name!r}: {one_line(error)}") from error
        if not isinstance(found, dict):  # a single split, saved without a name
            return found
        if self._split not in found:
            match = nearest(self._split, found)
            hint = f"; did you mean {match}?" if match else f"; it has {', '.join(found)}"
            raise TaskError(f"dataset {self._name!r} has no split {self._split!r}{hint}")
        return found[self._split]


def _reader(path: Path) -> str:
    if path.suffix not in _READERS:
        raise TaskError(
            f"task.options.name must be a file of {', '.join(_READERS)}, got {str(path)!r}"
        )
    return _READERS[path.suffix]
