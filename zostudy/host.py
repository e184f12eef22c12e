"""What the host lets this process use: memory and processors, and how its threads wait.

A control group limits all that is in it and in the groups below it, so that the smallest limit of
this process's own group and of those above it counts. Imports nothing heavy: the command line sets
the wait policy before torch is loaded.

References: the kernel's ``Documentation/admin-guide/cgroup-v1`` and ``cgroup-v2.rst``;
``proc_pid_mountinfo(5)``; GOMP_SPINCOUNT in the manual of libgomp.
"""

import contextlib
import hashlib
import json
import math
import os
import platform
import re
from collections.abc import Iterator, MutableMapping
from pathlib import Path, PurePosixPath

#: How often a waiting thread looks before it sleeps: for microseconds. Ten times as many, and
#: libgomp's own milliseconds, make a step with a busy process on each core about five times as
#: long, since the looking takes the core from the thread that is waited for. Not to look at all
#: makes a step on a quiet machine a third longer. ``benchmarks/waiting.py`` measures them.
_SPIN_COUNT = 2000

_PROCESS = Path("/proc/self")

#: What tells processors without a name apart.
_NUMBERS = ("Model", "CPU implementer", "CPU part", "CPU variant", "CPU revision")

#: What tells processors of one name apart.
_KIND = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features")


def wait_briefly(environment: MutableMapping[str, str]) -> None:
    """Have the threads of torch sleep soon while they wait, unless the user has said how they wait.

    OpenMP reads it once, when torch is loaded; child processes inherit it.

    Args:
        environment: The environment of this process, or of one that is to be started.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & environment.keys():
        environment["GOMP_SPINCOUNT"] = str(_SPIN_COUNT)


def memory(process: Path = _PROCESS) -> int:
    """Bytes of memory that the machine has, or that control groups leave of it.

    Args:
        process: The process's folder in ``/proc``.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for group in groups("memory", process):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limits += _numbers(group / name)
    return min(limits)


def processor(file: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's own name where the system tells it.

    Linux on ARM gives no name: there it is the board's, if it is told, and the numbers of each kind
    of core.

    Args:
        file: What the system tells.
    """
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    told = [(name.strip(), value.strip()) for name, _, value in (x.partition(":") for x in lines)]
    names = [value for name, value in told if name == "model name"]
    parts = [
        value if name == "Model" else f"{name} {value}" for name, value in told if name in _NUMBERS
    ]
    own = names[0] if names else " ".join(dict.fromkeys(sorted(parts)))
    return own or platform.processor() or platform.machine()


def kind_of_processor(file: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, and a digest of its family, model, stepping and instructions.

    Virtual machines often have the same name on processors of several generations.

    Args:
        file: What the system tells.
    """
    name = processor(file)
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            field, _, value = line.partition(":")
            if field.strip() in _KIND:
                found.setdefault(field.strip(), value.strip())
    text = json.dumps(found, sort_keys=True)
    return f"{name} {hashlib.sha256(text.encode()).hexdigest()[:16]}" if found else name


def processors(process: Path = _PROCESS) -> int:
    """How many processors this process may keep busy; a part of one counts as one.

    Args:
        process: The process's folder in ``/proc``.
    """
    pinned = hasattr(os, "sched_getaffinity")  # not on macOS
    counts = [len(os.sched_getaffinity(0)) if pinned else os.cpu_count() or 1]
    for group in groups("cpu", process):
        quota = _numbers(group / "cpu.max") or [
            *_numbers(group / "cpu.cfs_quota_us"),
            *_numbers(group / "cpu.cfs_period_us"),
        ]
        if len(quota) == 2:  # one number alone is the period of a group without a limit
            counts.append(math.ceil(quota[0] / quota[1]))
    return min(counts)


def groups(controller: str, process: Path = _PROCESS) -> list[Path]:
    """Folders of the control groups that hold this process, each before the one above it.

    Args:
        controller: What they control: ``memory`` or ``cpu``.
        process: The process's folder in ``/proc``.
    """
    found: list[Path] = []
    with contextlib.suppress(OSError, ValueError):  # a system without control groups
        paths = dict(_memberships(process))
        for controls, root, mount in _hierarchies(process):
            name = controller if controller in controls else ""
            if name in paths and (name or not controls):
                found += _upwards(mount, root, paths[name])
    return found


def _memberships(process: Path) -> Iterator[tuple[str, str]]:
    """The path of the process's group by controller; by nothing in the unified hierarchy."""
    for line in (process / "cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _hierarchies(process: Path) -> Iterator[tuple[list[str], str, Path]]:
    """What each hierarchy controls (the unified one: no names), its mounted group, and where."""
    for line in (process / "mountinfo").read_text(encoding="utf-8").splitlines():
        place, _, system = line.partition(" - ")
        kind, _, options = system.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            root, mount = place.split(" ")[3:5]
            unescaped = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), mount)
            yield options.split(",") if kind == "cgroup" else [], root, Path(unescaped)


def _upwards(mount: Path, root: str, path: str) -> Iterator[Path]:
    """The folder of a group and of those above it, as far as they can be seen here."""
    below = PurePosixPath("/")
    if PurePosixPath(path).is_relative_to(root) and ".." not in path:
        below /= PurePosixPath(path).relative_to(root)
    for part in (below, *below.parents):
        yield mount / part.relative_to("/")


def _numbers(file: Path) -> list[int]:
    """The numbers of a file of a control group; none where there is no limit, or no such file."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: "max"
        numbers = [int(text) for text in file.read_text(encoding="ascii").split()]
        return numbers if all(number >= 0 for number in numbers) else []
    return []
