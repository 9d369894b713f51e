"""What `.ci/setup.py` asks of a machine before it installs anything. Standard library only."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

MIN_PYTHON = (3, 11)
DISK_GIB = {"cpu": 5, "gpu": 14}


def use_supported_python() -> None:
    """Continue under a Python that is new enough, if this one is not."""
    if sys.version_info >= MIN_PYTHON:
        return
    for name in ("python3.12", "python3.13", "python3.11"):
        found = shutil.which(name)
        if found:
            os.execv(found, [found, *sys.argv])
    fail(
        "Python {}.{} is too old, 3.11 or newer is needed".format(*sys.version_info),
        "install one (apt install python3.11 python3.11-venv, or uv python install 3.12) and name "
        "it: make PYTHON=/path/to/python3.11 ...",
    )


def require(platform: str, venv: Path, ours: Path) -> None:
    """Name everything that an environment at `venv` lacks here, and exit 1; or return.

    `ours` is the file that marks a `venv` made by this setup, which it may delete.
    """
    lacking = []
    if (sys.platform, os.uname().machine) != ("linux", "x86_64"):
        lacking.append(("the locks are for Linux on x86_64", "use such a machine or a container"))
    for module in ("venv", "ensurepip"):
        try:
            __import__(module)
        except ImportError:
            mend = "apt install python{}.{}-venv".format(*sys.version_info)
            lacking.append((f"this Python has no {module} module", mend))
    for tools, package in ((("git",), "git"), (("make",), "make"), (("g++", "clang++"), "g++")):
        if not any(shutil.which(tool) for tool in tools):
            lacking.append((" or ".join(tools) + " is not on the PATH", "apt install " + package))
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        mend = "apt install python{}.{}-dev".format(*sys.version_info)
        lacking.append(("this Python has no Python.h, to build extensions with", mend))
    free_gib = shutil.disk_usage(str(venv.parent)).free / 2**30
    if free_gib < DISK_GIB[platform] and not venv.exists():
        what = f"{free_gib:.1f} GiB free here, {DISK_GIB[platform]} are needed"
        lacking.append((what, "free some, or move the checkout to a larger disk"))
    if venv.exists() and not ours.exists():
        lacking.append((f"{venv} was not made by this script", "move it out of the way"))
    for problem, mend in lacking:
        print(f"error: {problem}\n       mend: {mend}", file=sys.stderr)
    if lacking:
        sys.exit(1)


def fail(problem: str, mend: str) -> None:
    """End setup with exit code 1, naming what is wrong and the way to mend it."""
    print(f"\nerror: {problem}\n       mend: {mend}", file=sys.stderr)
    sys.exit(1)
