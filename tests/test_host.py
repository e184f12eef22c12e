import os
import subprocess
import sys
import uuid

import pytest

from zostudy import host
from zostudy.config.settings import RuntimeSettings
from zostudy.study.workers import isolation

GIB = 2**30


def process(folder, mounts, groups):
    """A folder as that of a process in /proc: hierarchies (type, root, place, options), groups."""
    lines = [
        f"30 23 0:2{i} {root} {str(place).replace(' ', chr(92) + '040')} rw - {kind} none {options}"
        for i, (kind, root, place, options) in enumerate(mounts)
    ]
    folder.mkdir()
    (folder / "mountinfo").write_text(
        "22 1 8:1 / / rw shared:1 - ext4 /dev/vda rw\n" + "\n".join(lines)
    )
    (folder / "cgroup").write_text("\n".join(groups) + "\n")
    return folder


def group(place, **files):
    """The folder of a control group; ``__`` in a name is a dot."""
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / name.replace("__", ".")).write_text(f"{text}\n")


@pytest.fixture
def unified(tmp_path):
    """A process of the group /a/b in a unified hierarchy, whose place has a blank in its name."""
    mount = tmp_path / "the groups"
    group(mount / "a" / "b")
    return mount, process(tmp_path / "self", [("cgroup2", "/", mount, "rw")], ["0::/a/b"])


@pytest.fixture
def separate(tmp_path):
    """The same with a hierarchy for memory, one for processors and an empty unified one."""
    mount = tmp_path / "groups"
    kinds = ("memory", "cpu", "unified")
    for kind in kinds:
        group(mount / kind / "a" / "b")
    mounts = [("cgroup", "/", mount / kind, f"rw,{kind}") for kind in kinds[:2]]
    mounts[1] = (*mounts[1][:3], "rw,cpu,cpuacct")
    mounts.append(("cgroup2", "/", mount / "unified", "rw"))
    groups = ["3:memory:/a/b", "2:cpu,cpuacct:/a/b", "1:name=systemd:/a/b", "0::/"]
    return mount, process(tmp_path / "self", mounts, groups)


@pytest.mark.parametrize("own", [GIB, 3 * GIB])
def test_the_smallest_limit_of_the_groups_that_hold_a_process_counts(unified, own):
    mount, folder = unified
    group(mount / "a" / "b", memory__max=own)
    group(mount / "a", memory__max=2 * GIB)
    assert host.memory(folder) == min(own, 2 * GIB)


def test_a_separate_hierarchy_of_memory_counts_as_well(separate):
    mount, folder = separate
    group(mount / "memory" / "a" / "b", memory__limit_in_bytes=2**63 - 4096)
    group(mount / "memory" / "a", memory__limit_in_bytes=GIB)
    assert host.memory(folder) == GIB


def test_limits_of_groups_that_do_not_hold_the_process_do_not_count(unified):
    mount, folder = unified
    group(mount / "a" / "c", memory__max=4096, cpu__max="1000 100000")
    assert host.memory(folder) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert host.processors(folder) == len(os.sched_getaffinity(0))


def test_a_container_that_sees_its_own_group_alone_is_limited_by_it(tmp_path):
    mount = tmp_path / "groups"
    group(mount, memory__max=GIB)
    mounts = [("cgroup2", "/machine/container", mount, "rw")]
    for name, path in (
        ("inside", "/machine/container"),
        ("elsewhere", "/another"),
        ("up", "/../x"),
    ):
        assert host.memory(process(tmp_path / name, mounts, [f"0::{path}"])) == GIB


@pytest.mark.parametrize(
    ("quota", "count"), [("10000", 1), ("100000", 1), ("100001", 2), ("max", 9)]
)
def test_a_part_of_a_processor_counts_as_one(unified, quota, count, monkeypatch):
    mount, folder = unified
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(9)))
    group(mount / "a", cpu__max=f"{quota} 100000")
    assert host.processors(folder) == count


@pytest.mark.parametrize(("quota", "count"), [("150000", 2), ("-1", 9)])
def test_a_separate_hierarchy_of_processors_counts_as_well(separate, quota, count, monkeypatch):
    mount, folder = separate
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(9)))
    group(mount / "cpu" / "a" / "b", cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    assert host.processors(folder) == count


@pytest.mark.parametrize("text", ["", "no such form\n"])
def test_a_system_without_control_groups_has_what_the_machine_has(tmp_path, text):
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert host.memory(tmp_path / "none") == whole
    folder = process(tmp_path / "self", [], [])
    (folder / "cgroup").write_text(text)
    assert host.memory(folder) == whole


def test_only_the_processors_that_a_process_is_pinned_to_count():
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); " + _PRINT
    assert _printed(code)[1] == 1


def test_a_real_group_below_the_own_one_is_found():
    """A process of its own moves into a group with 1 GiB, and is told so."""
    (own, *_), name = (host.groups("memory") or [None]), f"zostudy-{uuid.uuid4()}"
    if own is None:
        pytest.skip("the machine has no control groups")
    try:
        (own / name).mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        limits = [own / name / file for file in ("memory.max", "memory.limit_in_bytes")]
        limit = next((file for file in limits if file.exists()), None)
        if limit is None:
            pytest.skip("memory is not controlled in groups below this process's")
        limit.write_text(str(GIB))
        move = f"open({str(own / name / 'cgroup.procs')!r}, 'w').write('0'); "
        assert _printed(move + _PRINT)[0] == GIB
    finally:
        (own / name).rmdir()


ARM = """processor : {}
BogoMIPS : 108.00
CPU implementer : 0x41
CPU part : {}

"""


def test_a_processor_without_a_name_is_told_by_board_and_kinds_of_cores(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text(ARM.format(0, "0xd05") + ARM.format(1, "0xd0b") + "Model : Some Board 4\n")
    assert host.processor(file) == (
        "CPU implementer 0x41 CPU part 0xd05 CPU part 0xd0b Some Board 4"
    )
    file.write_text("model name : Some Processor\nmodel name : Some Processor\n")
    assert host.processor(file) == "Some Processor"
    assert host.processor(tmp_path / "gone")


_PRINT = "from zostudy import host; print(host.memory(), host.processors())"


def _printed(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [int(number) for number in done.stdout.split()]


def test_threads_sleep_soon_unless_the_user_says_how_they_wait():
    environment = {"HOME": "/"}
    host.wait_briefly(environment)
    assert environment == {"HOME": "/", "GOMP_SPINCOUNT": "2000"}
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        environment = {name: "active"}
        host.wait_briefly(environment)
        assert environment == {name: "active"}


def test_auto_takes_as_many_threads_as_processors_may_be_used(monkeypatch):
    monkeypatch.setattr(host, "processors", lambda: 3)
    assert RuntimeSettings.model_validate_json('{"threads": "auto"}').threads == 3
    assert RuntimeSettings().threads == 2


def test_kills_are_looked_for_in_every_group_that_holds_the_process():
    groups = host.groups("memory")
    counters = isolation._counters()
    assert all(any(file.parent == folder for file in counters) for folder in groups)


def test_processors_of_one_name_are_told_apart(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for path, model in ((one, 1), (other, 17)):
        path.write_text(f"model name\t: AMD EPYC\nmodel\t\t: {model}\nflags\t\t: avx2\n" * 2)
    kinds = {host.kind_of_processor(path) for path in (one, one, other)}
    assert len(kinds) == 2
    assert all(kind.startswith("AMD EPYC ") for kind in kinds)
    assert host.kind_of_processor(tmp_path / "absent") == host.processor(tmp_path / "absent")
