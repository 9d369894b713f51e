"""What the control groups (version 1 or 2) allow this process: containers and schedulers set them.

A limit of any ancestor binds too, so the smallest on the way up counts. Inside a container some of
that way is hidden; what cannot be read is no limit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class CgroupLimits:
    """None: no limit."""

    cpu_quota: float | None  # [cores]
    memory_total: int | None  # [bytes]
    memory_free: (
        int | None
    )  # [bytes] before the limit; page cache that can be dropped counts as free


def read_limits(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> CgroupLimits:
    """Read the limits of this process. Never raises: a machine without cgroups has no limits."""
    quotas = [_cpu_quota(folder) for folder in _folders("cpu", root, membership)]
    memory = [_memory(folder) for folder in _folders("memory", root, membership)]
    limited = [pair for pair in memory if pair is not None]
    return CgroupLimits(
        cpu_quota=min((quota for quota in quotas if quota is not None), default=None),
        memory_total=min((total for total, _ in limited), default=None),
        memory_free=min((free for _, free in limited), default=None),
    )


def _folders(controller: str, root: Path, membership: Path) -> Iterator[Path]:
    """The folders that hold this process's limits, its own first, then its ancestors'."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            base = root
        elif controller in controllers.split(","):
            base = root / controller
        else:
            continue
        folder = base / path.lstrip("/")
        yield folder
        while folder != base:
            folder = folder.parent
            yield folder


def _cpu_quota(folder: Path) -> float | None:
    text = _read(folder / "cpu.max")  # version 2: "QUOTA PERIOD" in microseconds
    if text is None:
        text = f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}"
    quota, _, period = text.partition(" ")
    if not (quota.isdigit() and period.isdigit()):  # "max" in version 2, -1 in version 1
        return None
    return int(quota) / int(period)


def _memory(folder: Path) -> tuple[int, int] | None:
    """(limit, free before it) in bytes."""
    limit = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")
    used = _read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes")
    if limit is None or used is None or not limit.isdigit() or int(limit) > 2**60:
        return None  # version 1 writes "none" as the largest multiple of a page
    pairs = (line.split() for line in (_read(folder / "memory.stat") or "").splitlines())
    stat = {name: int(value) for name, value in pairs}
    cache = stat.get("total_inactive_file", stat.get("inactive_file", 0))
    return int(limit), max(0, int(limit) - int(used) + cache)


def _read(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:
        return None
