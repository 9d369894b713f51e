"""Make `.venv`, the environment of this checkout: `python3 .ci/setup.py --platform cpu|gpu`.

Standard library only. Running it again costs milliseconds when nothing changed, brings an older
environment up to date, and starts over after an interrupted run. pip's output is in
`.venv/install.log`. Exit code 0 when `.venv` is ready, 1 when something is missing.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from checks import fail, require, use_supported_python

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOG = VENV / "install.log"
OURS = VENV / ".made-by-setup"  # a .venv without it is somebody else's, and is not deleted
STAMP = VENV / ".ready"  # holds the digest of what .venv was made from
INCOMPLETE = VENV / ".incomplete"  # packages may be half written: pip was killed or failed
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
# Published as source: built last, in the environment itself, where deepspeed's build finds torch.
SDISTS = ("antlr4-python3-runtime", "cellpylib", "deepspeed", "pycosat", "zss")
# In the environment of whoever runs us, these would send pip or Python elsewhere.
DIVERTING = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")
CHATTER = ("WARNING", "Requirement already satisfied", "Looking in")
IMPORTS = (
    "torch, vllm, deepspeed, zmq, msgpack, hydra, async_r1, "
    "transformers.models.qwen3.modeling_qwen3"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--platform", choices=("cpu", "gpu"), default="cpu")
    platform = parser.parse_args().platform
    use_supported_python()
    with open(__file__) as lock:  # one setup at a time: two would delete each other's files
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = digest(platform)
        if (VENV / "bin/python").exists() and STAMP.exists() and STAMP.read_text() == wanted:
            return 0
        require(platform, VENV, OURS)
        start = time.monotonic()
        STAMP.unlink(missing_ok=True)
        open_venv(platform)
        install(platform)
        STAMP.write_text(wanted)
        print(f"setup: .venv is ready ({time.monotonic() - start:.0f} s)")
    return 0


def open_venv(platform: str) -> None:
    """Leave an environment to install into: the present one if it can be updated, or a new one."""
    made_as = f"{platform} {VENV}"  # its scripts hold absolute paths: a moved checkout starts over
    python = VENV / "bin/python"
    if python.exists() and OURS.read_text() == made_as and not INCOMPLETE.exists():
        return
    with stage("Python {}.{} environment".format(*sys.version_info)):
        if VENV.exists():
            shutil.rmtree(VENV)
        VENV.mkdir()
        OURS.write_text(made_as)
        INCOMPLETE.touch()
        run([sys.executable, "-m", "venv", str(VENV)])


def install(platform: str) -> None:
    """Install the locked packages, then the checkout, and see that they import."""
    lock = ROOT / (platform + ".lock")
    INCOMPLETE.touch()
    pins = [line.strip() for line in lock.read_text().splitlines() if line[:1].isalnum()]
    if platform == "cpu":
        with stage("torch for CPU"):
            install_cpu_torch(next(pin for pin in pins if pin.startswith("torch==")))
    sources = [pin for pin in pins if pin.split("==")[0] in SDISTS]
    with stage(f"{len(pins)} packages of {lock.name}"):
        wheels = VENV / "wheels.txt"
        wheels.write_text("\n".join(pin for pin in pins if pin not in sources))
        pip("-r", str(wheels))
        pip("--no-build-isolation", *sources)
    INCOMPLETE.unlink()
    if (cuda_of_torch() is None) != (platform == "cpu"):
        fail(
            f"the torch in .venv is not a {platform.upper()} build",
            f"rm -rf .venv && make setup PLATFORM={platform}",
        )
    with stage("async_r1 itself"):
        pip("--no-build-isolation", "--editable", str(ROOT))
    with stage("import check"):
        run([str(VENV / "bin/python"), "-c", "import " + IMPORTS])


def install_cpu_torch(pin: str) -> None:
    """Install from PyTorch's CPU index, or where that has nothing, from where pip is told to look.

    The label +cpu keeps pip from taking the CUDA build, of several gigabytes, for the same version.
    """
    tag = "cp{}{}".format(*sys.version_info)
    sources = [[]]
    try:
        with urllib.request.urlopen(TORCH_INDEX + "/torch/", timeout=4) as page:
            listing = page.read().decode()
        if pin.replace("==", "-") + "%2Bcpu-" + tag in listing:
            sources.insert(0, ["--index-url", TORCH_INDEX])
    except OSError:
        pass
    if not any(pip(pin + "+cpu", *source, check=False) for source in sources):
        fail(
            f"no CPU wheel of {pin} for Python {sys.version.split()[0]}: neither at {TORCH_INDEX} "
            f"nor where pip looks (log: {LOG})",
            "use another Python (make PYTHON=python3.11 ...), open the way to that index, or put "
            "the wheel in a folder and name the folder in PIP_FIND_LINKS",
        )


def cuda_of_torch() -> str | None:
    """The CUDA version the installed torch was built for; None for a CPU build."""
    code = (
        "import importlib.metadata as m, runpy; d = m.distribution('torch');"
        "print(runpy.run_path(d.locate_file('torch/version.py'))['cuda'] or '')"
    )
    done = subprocess.run(
        [str(VENV / "bin/python"), "-c", code], stdout=subprocess.PIPE, check=True
    )
    return done.stdout.decode().strip() or None


def pip(*args: str, check: bool = True) -> bool:
    """`pip install` of exactly these: the lock already names every dependency."""
    quiet = ["--no-input", "--progress-bar", "off", "--no-deps"]
    return run([str(VENV / "bin/python"), "-m", "pip", "install", *quiet, *args], check)


def run(command: list[str], check: bool = True) -> bool:
    """Run with the output in the log; with `check`, a failure ends setup with its last lines."""
    env = {k: v for k, v in os.environ.items() if k not in DIVERTING}
    env.update(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_USER="0", PYTHONNOUSERSITE="1")
    env.setdefault("PIP_RETRIES", "2")
    with LOG.open("ab") as log:
        log.write(("\n$ " + " ".join(command) + "\n").encode())
        log.flush()
        done = subprocess.run(command, cwd=str(ROOT), env=env, stdout=log, stderr=log)
    if done.returncode and check:
        lines = LOG.read_text(errors="replace").splitlines()
        telling = [line[:200] for line in lines if not line.startswith(CHATTER)]
        print("\n" + "\n".join(telling[-8:]), file=sys.stderr)
        fail(f"the command above failed; the whole log is {LOG}", "mend that and run again")
    return done.returncode == 0


@contextmanager
def stage(name: str):
    """Print one line: the name when it starts, the seconds when it is done."""
    print(f"setup: {name} ...", end=" ", flush=True)
    start = time.monotonic()
    yield
    print(f"{time.monotonic() - start:.0f} s")


def digest(platform: str) -> str:
    """What the stamp must hold: changes with the lock, pyproject.toml and the checkout's place."""
    parts = [str(VENV).encode(), platform.encode()]
    parts += [(ROOT / name).read_bytes() for name in (platform + ".lock", "pyproject.toml")]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nsetup: interrupted; the next run starts over")
