"""Memory under the limits of control groups, versions 1 and 2."""

import psutil
import pytest

from interp.memory import main_memory

MB = 1 << 20


def group(folder, limit, used, cache, names=("memory.max", "memory.current", "inactive_file")):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 7\n{names[2]} {cache}\nslab 3\n")


@pytest.fixture
def member(tmp_path):
    """Make this process a member of groups."""

    def of(*lines):
        (tmp_path / "cgroup").write_text("".join(f"{line}\n" for line in lines))
        return main_memory(tmp_path / "cgroup", tmp_path / "mount")

    return of


def test_without_groups_it_is_the_machines(tmp_path):
    machine = psutil.virtual_memory()
    assert main_memory(tmp_path / "none", tmp_path).total == machine.total
    assert 0 < main_memory().free <= main_memory().total <= machine.total


def test_version_2(tmp_path, member):
    group(tmp_path / "mount/a/b", "max", 5 * MB, 0)
    assert member("0::/a/b").total == psutil.virtual_memory().total
    group(tmp_path / "mount/a/b", 50 * MB, 20 * MB, 4 * MB)
    assert member("0::/a/b") == (50 * MB, 34 * MB)


def test_a_group_above_limits_too(tmp_path, member):
    group(tmp_path / "mount/a/b", 50 * MB, 20 * MB, 0)
    group(tmp_path / "mount/a", 60 * MB, 55 * MB, 0)
    assert member("0::/a/b") == (50 * MB, 5 * MB)
    group(tmp_path / "mount", 10 * MB, 12 * MB, 0)
    assert member("0::/a/b") == (10 * MB, 0)


def test_version_1(tmp_path, member):
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    group(tmp_path / "mount/memory/docker/x", 80 * MB, 30 * MB, 10 * MB, names)
    assert member("11:cpu:/docker/x", "7:hugetlb,memory:/docker/x") == (80 * MB, 60 * MB)
    group(tmp_path / "mount/memory/docker/x", (1 << 63) - 4096, 30 * MB, 0, names)  # how version 1 writes "no limit"
    assert member("7:memory:/docker/x").total == psutil.virtual_memory().total


def test_a_path_of_another_namespace_leaves_the_mount_itself(tmp_path, member):
    group(tmp_path / "mount", 70 * MB, 10 * MB, 0)
    assert member("0::/system.slice/docker-123.scope") == (70 * MB, 60 * MB)
    assert member("0::/../../x") == (70 * MB, 60 * MB)
