"""Every call to the disk may fail, be the last one, or be forgotten: the old version stays (B2, B3, B5)."""

import errno
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest

from genrail.errors import GenrailError, StorageError
from genrail.storage import gc, open_journal, open_version, publish, rollback, snapshot, verify, versions
from tests.storage.content import fill, tag_of, tree
from tests.storage.faults import UNSYNCED, Death, DyingFiles, FailingFiles, PowerCutFiles, interruptions

CHANGES = [{"remove": ["sku-1"]}, {"add": ["sku-2"]}]


def publish_next(folder, files):
    base = open_journal(open_version(folder, files=files), files=files).position if folder.exists() else None
    publish(folder, fill(9, files), details={"tag": 9}, base=base, files=files)


def append_next(folder, files):
    open_journal(open_version(folder, files=files), files=files).append({"add": ["sku-9"]})


ACTS = {
    "publish": publish_next,
    "append": append_next,
    "rollback": lambda folder, files: rollback(folder, 2, files=files),
    "gc": lambda folder, files: gc(folder, 1, files=files),
}


@pytest.fixture
def folder(tmp_path):
    """Hold versions 2 and 3, changes beside 3, and the leftovers of a killed build."""
    folder = tmp_path / "root" / "shop.genrail"
    folder.parent.mkdir()
    for tag in (1, 2, 3):
        publish(folder, fill(tag), details={"tag": tag})
    for change in CHANGES:
        open_journal(open_version(folder)).append(change)
    (folder / "versions" / "000004.building").mkdir()
    (folder / "versions" / "000004.building" / "half").write_bytes(b"half")
    return folder


def state(folder):
    """Read what a user would get: tag and changes."""
    version = open_version(folder)
    return tag_of(version), open_journal(version).records()


BEFORE = (3, CHANGES)
AFTER = {"publish": (9, []), "append": (3, [*CHANGES, {"add": ["sku-9"]}]), "rollback": (2, []), "gc": BEFORE}


def copy(folder, target):
    """Copy a folder to `target` without its locks."""
    for name, data in tree(folder).items():
        path = target / folder.name / name
        if data is None:
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return target / folder.name


def assert_usable(folder):
    """A folder that survived can be cleaned, changed and published to, and holds nothing that nobody needs."""
    gc(folder)
    assert [problem for problem in verify(folder) if "never acknowledged" not in problem] == []
    kept = versions(folder)
    expected = {f"{number:06d}{suffix}" for number in kept for suffix in ("", ".journal")}
    assert len(kept) <= 2
    assert {path.name for path in (folder / "versions").iterdir()} == expected
    assert {path.name for path in folder.iterdir() if path.suffix not in (".lock", ".owner")} == {"CURRENT", "versions"}
    open_journal(open_version(folder), files=UNSYNCED).append({"still": "alive"})
    publish(folder, fill(5), details={"tag": 5}, files=UNSYNCED)
    assert state(folder) == (5, [])
    assert verify(folder) == []


@pytest.mark.parametrize(
    ("number", "for_good"),
    [
        pytest.param(errno.EIO, False, id="I/O error"),
        pytest.param(errno.ENOSPC, True, id="disk full and stays full"),
        pytest.param(errno.EIO, True, id="disk broken for good", marks=pytest.mark.slow),
        pytest.param(errno.ENOSPC, False, id="disk full for a moment", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("act", ACTS)
def test_a_failing_disk_is_reported_with_the_path_and_leaves_the_old_version(folder, tmp_path, act, number, for_good):
    for files in interruptions(lambda at: FailingFiles(at, number, for_good)):
        place = copy(folder, tmp_path / str(files.at))
        try:
            ACTS[act](place, files)
            failed = False
        except StorageError as error:
            failed = True
            assert str(place) in str(error)
            assert ("the disk is full" in str(error)) == (number == errno.ENOSPC)
        allowed = [BEFORE, AFTER[act]] if not failed or for_good else [BEFORE]
        assert state(place) in allowed, files.trace[-5:]
        if not files.went_wrong:
            assert state(place) == AFTER[act]
        assert_usable(place)
    assert files.at > 3, "an act makes several calls"


@pytest.mark.parametrize("act", ACTS)
def test_a_process_that_dies_at_any_call_leaves_the_old_version_or_the_new_one(folder, tmp_path, act):
    for files in interruptions(DyingFiles):
        place = copy(folder, tmp_path / str(files.at))
        try:
            ACTS[act](place, files)
        except Death:
            pass
        assert state(place) in [BEFORE, AFTER[act]], files.trace[-5:]
        if not files.went_wrong:
            assert state(place) == AFTER[act]
        assert_usable(place)


@pytest.mark.parametrize("act", [*ACTS, "first publish"])
def test_a_power_cut_at_any_call_loses_nothing_acknowledged(folder, tmp_path, act):
    at = 0
    cut = True
    while cut:
        root = tmp_path / str(at)
        root.mkdir()
        place = root / "new.genrail" if act == "first publish" else copy(folder, root)
        files = PowerCutFiles(at, root)
        try:
            ACTS.get(act, publish_next)(place, files)
        except Death:
            pass
        cut = files.went_wrong
        files.survivors(tmp_path / f"{at} survived")
        files.close()
        survivor = tmp_path / f"{at} survived" / place.name
        if act == "first publish":
            assert_published_or_not(survivor, must=not cut)
        else:
            assert state(survivor) in ([BEFORE, AFTER[act]] if cut else [AFTER[act]]), files.trace[-5:]
            assert_usable(survivor)
        at += 1


def assert_published_or_not(folder, must):
    try:
        assert state(folder) == (9, [])
    except GenrailError:
        assert not must
    publish(folder, fill(5), details={"tag": 5}, files=UNSYNCED)
    assert state(folder) == (5, [])


@pytest.mark.parametrize("double", [lambda at: FailingFiles(at, errno.ENOSPC), DyingFiles], ids=["full", "dying"])
def test_a_first_publish_that_does_not_end_leaves_a_place_to_publish_to(tmp_path, double):
    for files in interruptions(double):
        place = tmp_path / str(files.at) / "shop.genrail"
        try:
            publish_next(place, files)
        except (StorageError, Death):
            # Dying after the switch is dying after the fact: then it is all there.
            with suppress(GenrailError):
                assert tag_of(open_version(place)) == 9 and isinstance(files, DyingFiles)
        for tag in (1, 2, 5):
            publish(place, fill(tag), details={"tag": tag}, files=UNSYNCED)
        assert_usable(place)


def test_a_snapshot_that_fails_leaves_no_archive(folder, tmp_path):
    for files in interruptions(lambda at: FailingFiles(at, errno.ENOSPC)):
        archive = tmp_path / f"{files.at}.tar.gz"
        try:
            snapshot(folder, archive, files=files)
        except StorageError:
            # The last call is the wait for the directory: then a whole archive is there, perhaps not for good.
            assert not archive.exists() or files.trace[-1][0] == "sync"
        assert not list(tmp_path.glob("*.partial"))
    assert state(folder) == BEFORE


LIMITED = """
    import resource, sys
    from pathlib import Path
    from genrail.errors import StorageError
    from genrail.storage import publish, open_journal, open_version
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
    folder = Path(sys.argv[1])
    try:
        if sys.argv[2] == "publish":
            publish(folder, lambda path: path.joinpath("big.npy").write_bytes(bytes(1 << 20)) and None)
        else:
            open_journal(open_version(folder)).append({"add": ["x" * (1 << 20)]})
    except StorageError as error:
        sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize(("act", "said"), [("publish", "publishing"), ("append", "appending to")])
def test_a_really_full_disk_is_named_and_the_old_version_stays(folder, act, said):
    gc(folder)
    before = tree(folder)
    command = [sys.executable, "-c", textwrap.dedent(LIMITED), str(folder), act]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith(f"DiskError: the disk is full while {said}")
    assert str(folder) in result.stderr and "MiB free" in result.stderr
    assert tree(folder) == before
    assert state(folder) == BEFORE


def test_failed_builds_do_not_pile_up(folder):
    """B5: after many failures and kills in a row the disk holds what it held."""
    gc(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*"))
    total = 0
    for number in range(200):
        files = DyingFiles(7 + number % 20) if number % 2 else FailingFiles(7 + number % 20, errno.EIO)
        try:
            publish_next(folder, files)
        except (StorageError, Death):
            total += 1
        else:
            rollback(folder, versions(folder)[0])
            pytest.fail("a build that was to fail did not")
        if state(folder)[0] == 9:
            pytest.fail("a build that was to fail is live")
    gc(folder)
    assert total == 200
    assert sum(path.stat().st_size for path in Path(folder).rglob("*")) <= size * 1.01
