"""How many processors this process may use: by its affinity, and by the quotas of its control groups."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def count_processors() -> int:
    """Return how many processors this process may use, at least one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    membership = ""
    with contextlib.suppress(OSError):
        membership = _MEMBERSHIP.read_text()
    return usable_processors(allowed, read_quotas(_CONTROL_GROUPS, membership))


def usable_processors(allowed: int, quotas: Iterable[float]) -> int:
    """Return the smallest of all limits; a part of a processor counts as a whole one."""
    return max(1, min([allowed, *map(math.ceil, quotas)]))


def read_quotas(root: Path, membership: str) -> Iterator[float]:
    """Yield how many processors each control group with a quota may use: ours and those around it.

    `membership` is the text of /proc/self/cgroup. In a container its paths may be those of the machine, which
    do not exist there: then the group of the container is mounted as the root.
    """
    for line in membership.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        group = PurePosixPath(path.lstrip("/"))
        for folder in (group, *group.parents):
            if not controllers:
                yield from _quota_of_version_2(root / folder)
                yield from _quota_of_version_2(root / "unified" / folder)
            elif "cpu" in controllers.split(","):
                yield from _quota_of_version_1(root / controllers / folder)
                yield from _quota_of_version_1(root / "cpu" / folder)


def _quota_of_version_2(folder: Path) -> Iterator[float]:
    with contextlib.suppress(OSError, ValueError):  # no such group, or "max", which is no quota
        quota, period = (folder / "cpu.max").read_text().split()
        yield int(quota) / int(period)


def _quota_of_version_1(folder: Path) -> Iterator[float]:
    with contextlib.suppress(OSError, ValueError):
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        if quota > 0:  # -1 is no quota
            yield quota / int((folder / "cpu.cfs_period_us").read_text())
