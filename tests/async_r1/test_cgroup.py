from pathlib import Path

from async_r1.cgroup import CgroupLimits, read_limits

NO_LIMITS = CgroupLimits(cpu_quota=None, memory_total=None, memory_free=None)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


def limits(tmp_path: Path, membership: str, files: dict[str, str]) -> CgroupLimits:
    (tmp_path / "membership").write_text(membership)
    return read_limits(tree(tmp_path / "cgroup", files), tmp_path / "membership")


def test_version_2_takes_the_smallest_limit_on_the_way_up(tmp_path: Path) -> None:
    found = limits(
        tmp_path,
        "0::/pod/container\n",
        {
            "pod/cpu.max": "150000 100000",
            "pod/container/cpu.max": "max 100000",
            "pod/memory.max": "4000",
            "pod/memory.current": "3000",
            "pod/memory.stat": "anon 1\ninactive_file 500",
            "pod/container/memory.max": "9000",
            "pod/container/memory.current": "100",
        },
    )
    assert found == CgroupLimits(cpu_quota=1.5, memory_total=4000, memory_free=1500)


def test_version_1_reads_each_controller_from_its_own_tree(tmp_path: Path) -> None:
    found = limits(
        tmp_path,
        "4:memory:/job\n3:cpuset:/other\n1:cpu,cpuacct:/job\n",
        {
            "cpu/job/cpu.cfs_quota_us": "200000",
            "cpu/job/cpu.cfs_period_us": "100000",
            "memory/job/memory.limit_in_bytes": "1000",
            "memory/job/memory.usage_in_bytes": "400",
            "memory/job/memory.stat": "inactive_file 1\ntotal_inactive_file 50",
        },
    )
    assert found == CgroupLimits(cpu_quota=2.0, memory_total=1000, memory_free=650)


def test_version_1_writes_no_limit_as_minus_one_and_as_a_huge_number(tmp_path: Path) -> None:
    found = limits(
        tmp_path,
        "4:memory:/\n1:cpu:/\n",
        {
            "cpu/cpu.cfs_quota_us": "-1",
            "cpu/cpu.cfs_period_us": "100000",
            "memory/memory.limit_in_bytes": "9223372036854771712",
            "memory/memory.usage_in_bytes": "400",
        },
    )
    assert found == NO_LIMITS


def test_no_control_groups_are_no_limits(tmp_path: Path) -> None:
    assert read_limits(tmp_path / "none", tmp_path / "none") == NO_LIMITS
    assert limits(tmp_path, "0::/hidden/from/this/container\n", {}) == NO_LIMITS
