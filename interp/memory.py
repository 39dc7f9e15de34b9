"""Bytes of main memory that this process may use: the machine's, or the limit of its control group (container)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

if TYPE_CHECKING:
    import torch

_GROUPS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")


class Memory(NamedTuple):
    """Memory of a machine or a control group."""

    total: int
    """Bytes that may be used in all."""
    free: int
    """Bytes that can still be taken without swapping; caches that the system gives back count as free."""


def main_memory(groups: Path = _GROUPS, mount: Path = _MOUNT) -> Memory:
    """The least of the machine's memory and of the limits of all control groups that this process is in.

    `groups` lists the process's groups, `mount` is the folder of their files; versions 1 and 2 are read.
    """
    machine = psutil.virtual_memory()
    known = [Memory(machine.total, machine.available), *_limits(groups, mount)]
    return Memory(min(m.total for m in known), min(m.free for m in known))


def free_bytes(device: torch.device) -> int:
    """Bytes that can still be taken on a device: on a GPU also those that torch reserved and does not use."""
    if device.type != "cuda":
        return main_memory().free
    import torch

    free = torch.cuda.mem_get_info(device)[0]
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _limits(groups: Path, mount: Path) -> Iterator[Memory]:
    """The limit of every group and of the groups above it; nothing where groups are not used or not readable."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, inside = line.split(":", 2)
        if not controllers:
            root, names = mount, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root, names = mount / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        for folder in [root / inside.strip("/"), *(root / inside.strip("/")).parents]:
            if folder != root and root not in folder.parents:
                break
            if (found := _limit(folder, *names)) is not None:
                yield found


def _limit(folder: Path, limit: str, used: str, cache: str) -> Memory | None:
    """A group's limit; None where it has none."""
    try:
        total, taken = int((folder / limit).read_text()), int((folder / used).read_text())
    except (OSError, ValueError):  # no such file, or "max", which is no limit
        return None
    return Memory(total, max(0, total - taken + _statistic(folder / "memory.stat", cache)))


def _statistic(path: Path, name: str) -> int:
    """A number of `memory.stat`; 0 where it is missing."""
    try:
        pairs = (line.split() for line in path.read_text().splitlines())
        return next((int(pair[1]) for pair in pairs if pair[:1] == [name]), 0)
    except (OSError, ValueError, IndexError):
        return 0
