"""A folder holds whole versions only, and says why it refuses."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from genrail.errors import DamagedError, FormatError, SettingsError, StorageError
from genrail.storage import (
    Files,
    Position,
    check_target,
    gc,
    open_journal,
    open_version,
    publish,
    rollback,
    verify,
    versions,
)
from tests.storage.content import fill, tag_of, tree


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "shop.genrail"


def publish_tag(folder, tag, **settings):
    return publish(folder, fill(tag), details={"tag": tag}, **settings)


def test_what_was_written_comes_back(folder):
    details = {"tag": 1, "fingerprints": {"tokenizer": "ab12"}, "title": "Schöne Schuhe", "ratio": 0.1, "none": None}
    made = publish(folder, fill(1), kind="engine", details=details)
    opened = open_version(folder)
    assert opened == made
    assert opened.details == details
    assert (opened.number, opened.kind, opened.folder) == (1, "engine", folder)
    assert tag_of(opened) == 1
    assert (
        opened.size
        == sum(path.stat().st_size for path in opened.path.rglob("*") if path.is_file())
        - (opened.path / "manifest.json").stat().st_size
    )
    assert verify(folder) == []


def test_a_new_version_replaces_the_old_one_which_stays_to_go_back_to(folder):
    for tag in (1, 2, 3):
        publish_tag(folder, tag)
    assert tag_of(open_version(folder)) == 3
    assert versions(folder) == [2, 3]
    assert tag_of(open_version(folder, number=2)) == 2
    with pytest.raises(StorageError, match="has no version 1; it has: 2, 3"):
        open_version(folder, number=1)


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_keep_says_how_many_versions_stay(folder, keep):
    for tag in range(1, 6):
        publish_tag(folder, tag, keep=keep)
    assert versions(folder) == list(range(6 - keep, 6))
    assert {path.name for path in (folder / "versions").iterdir()} == {
        name for number in range(6 - keep, 6) for name in (f"{number:06d}", f"{number:06d}.journal")
    }


def test_keep_below_one_is_refused(folder):
    with pytest.raises(SettingsError, match="keep is 0"):
        publish_tag(folder, 1, keep=0)
    assert not folder.exists()


def test_parent_folders_are_made(tmp_path):
    assert tag_of(publish_tag(tmp_path / "a" / "b" / "shop", 1)) == 1


def test_a_failing_callback_leaves_the_old_version_and_nothing_else(folder):
    publish_tag(folder, 1)
    before = tree(folder)

    def write(path):
        fill(2)(path)
        raise RuntimeError("the model did not converge")

    with pytest.raises(RuntimeError, match="did not converge"):
        publish(folder, write)
    assert tree(folder) == before


def test_stopping_after_the_switch_keeps_the_new_version(folder):
    publish_tag(folder, 1)

    class Stopped(Files):
        def sync(self, path):
            super().sync(path)
            if path == folder:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish_tag(folder, 2, files=Stopped())
    assert tag_of(open_version(folder)) == 2
    assert open_journal(open_version(folder)).records() == []
    assert verify(folder) == [] and gc(folder) == []


def test_a_switch_that_can_neither_be_made_durable_nor_taken_back_keeps_the_new_version(folder):
    publish_tag(folder, 1)

    class Stuck(Files):
        switched = False

        def write(self, path, data):
            if self.switched:
                raise OSError(errno.EIO, "stuck", str(path))
            super().write(path, data)

        def sync(self, path):
            if path == folder:
                self.switched = True
                raise OSError(errno.EIO, "stuck", str(path))
            super().sync(path)

    with pytest.raises(StorageError, match="publishing"):
        publish_tag(folder, 2, files=Stuck())
    assert tag_of(open_version(folder)) == 2
    assert verify(folder) == []


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset"), ValueError("no")])
def test_errors_that_are_not_of_the_disk_pass_unchanged(folder, error):
    def write(path):
        raise error

    with pytest.raises(type(error)):
        publish(folder, write)


def test_a_writer_that_reports_a_full_disk_in_its_own_words_is_understood(folder):
    def write(path):
        raise RuntimeError(f"ComputeError: {os.strerror(28)} (os error 28)")

    with pytest.raises(StorageError, match=r"the disk is full while publishing .*shop.genrail \(\d+ MiB free\)"):
        publish(folder, write)


def test_too_little_space_is_refused_before_anything_is_written(folder):
    class SmallDisk(Files):
        def free_bytes(self, path):
            return 100 * 2**20

    with pytest.raises(StorageError, match="needs 120 MiB, it has 99 MiB|needs 121 MiB, it has 100 MiB"):
        publish(folder, fill(1), needs_bytes=101 * 2**20, files=SmallDisk())
    assert not folder.exists()
    publish(folder, fill(1), needs_bytes=83 * 2**20, files=SmallDisk())


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc/hosts"), os.mkfifo], ids=["link", "pipe"])
def test_only_plain_files_are_published(folder, make):
    with pytest.raises(StorageError, match="odd cannot be published"):
        publish(folder, lambda path: make(path / "odd"))
    assert gc(folder) == [] and versions(folder) == []


@pytest.mark.parametrize("name", ["manifest.json", "a\\b", "a:b", "line\nbreak"])
def test_names_that_not_every_system_can_hold_are_refused(folder, name):
    with pytest.raises(StorageError, match="cannot be published"):
        publish(folder, lambda path: (path / name).write_bytes(b""))


@pytest.mark.parametrize("details", [{"a": float("nan")}, {1: 2}, {"a": (1, 2)}, {"a": Path("x")}, {"a": {1, 2}}])
def test_details_that_are_not_plain_json_are_refused(folder, details):
    with pytest.raises(StorageError, match="cannot be saved as JSON"):
        publish(folder, fill(1), details=details)
    assert versions(folder) == []


# --- places that are not ours -----------------------------------------------------------------------------------------


def test_a_file_is_refused_as_target_and_as_source(tmp_path):
    path = tmp_path / "shop.genrail"
    path.write_text("mine")
    for act in (lambda: publish_tag(path, 1), lambda: check_target(path), lambda: open_version(path)):
        with pytest.raises(FormatError, match=r"shop\.genrail is a file"):
            act()
    assert path.read_text() == "mine"


@pytest.mark.parametrize("names", [["thesis.txt"], ["CURRENT", "MANIFEST-000004"], ["versions/v1.2/notes.txt"]])
def test_a_folder_with_other_things_is_refused_and_left_alone(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    before = tree(folder)
    for act in (lambda: publish_tag(folder, 1), lambda: check_target(folder), lambda: gc(folder)):
        with pytest.raises((FormatError, DamagedError)):
            act()
    with pytest.raises((FormatError, DamagedError)):
        open_version(folder)
    assert tree(folder) == before


def test_an_empty_folder_is_a_good_target(folder):
    folder.mkdir()
    (folder / ".DS_Store").write_bytes(b"litter of a file browser")
    check_target(folder)
    assert tag_of(publish_tag(folder, 1)) == 1
    (folder / "versions" / "000001" / ".DS_Store").write_bytes(b"litter")
    assert tag_of(open_version(folder)) == 1


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(StorageError, match="cannot be written to"):
        check_target(tmp_path / "shop.genrail")


def test_a_missing_folder_and_an_unpublished_one_are_told_apart(folder):
    with pytest.raises(FormatError, match="does not exist"):
        open_version(folder)
    folder.mkdir()
    with pytest.raises(FormatError, match="holds no genrail version"):
        open_version(folder)
    with pytest.raises(FormatError, match="holds no genrail version"):
        rollback(folder, 1)
    with pytest.raises(FormatError, match="holds no genrail version"):
        gc(folder)


def test_another_kind_is_refused(folder):
    publish(folder, fill(1), kind="run", details={"tag": 1})
    with pytest.raises(FormatError, match="holds 'run', not 'engine'"):
        open_version(folder)
    assert tag_of(open_version(folder, kind=None)) == tag_of(open_version(folder, kind="run")) == 1


def test_an_unknown_way_to_verify_is_refused(folder):
    publish_tag(folder, 1)
    with pytest.raises(SettingsError, match='give "full" or "sizes"'):
        open_version(folder, verify="no")


@pytest.mark.parametrize("page", ["CURRENT", "versions/000001/manifest.json"])
def test_a_newer_format_is_refused_with_the_command_that_helps_and_never_overwritten(folder, page):
    publish_tag(folder, 1)
    path = folder / page
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 2}))
    before = tree(folder)
    with pytest.raises(
        FormatError, match="format version 2, .* reads up to 1; upgrade it: pip install --upgrade genrail"
    ):
        open_version(folder)
    if page == "CURRENT":
        for act in (lambda: publish_tag(folder, 2), lambda: gc(folder), lambda: rollback(folder, 1)):
            with pytest.raises(FormatError, match="format version 2"):
                act()
        assert tree(folder) == before


# --- rollback, clean-up, bases ----------------------------------------------------------------------------------------


def test_rollback_and_forward_again(folder):
    publish_tag(folder, 1)
    publish_tag(folder, 2)
    assert tag_of(rollback(folder, 1)) == 1
    assert tag_of(open_version(folder)) == 1
    assert tag_of(rollback(folder, 2)) == tag_of(open_version(folder)) == 2
    rollback(folder, 1)
    assert publish_tag(folder, 3).number == 3, "a number is never given twice"
    assert versions(folder) == [2, 3]


def test_rollback_to_a_damaged_or_unknown_version_is_refused(folder):
    publish_tag(folder, 1)
    publish_tag(folder, 2)
    (folder / "versions/000001/items.parquet").write_bytes(b"")
    with pytest.raises(DamagedError, match=r"items\.parquet has 0 bytes"):
        rollback(folder, 1)
    with pytest.raises(StorageError, match="has no version 7; it has: 1, 2"):
        rollback(folder, 7)
    assert tag_of(open_version(folder)) == 2


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"{}")], ids=["lost", "altered"])
def test_rollback_mends_a_folder_whose_pointer_is_gone(folder, harm):
    publish_tag(folder, 1)
    publish_tag(folder, 2)
    harm(folder / "CURRENT")
    with pytest.raises(DamagedError, match=r"CURRENT.*roll back"):
        open_version(folder)
    with pytest.raises(DamagedError):
        gc(folder)
    assert verify(folder) != []
    assert tag_of(rollback(folder, 2)) == tag_of(open_version(folder)) == 2
    assert verify(folder) == []
    assert publish_tag(folder, 3).number == 3


def test_publishing_mends_a_folder_whose_pointer_is_gone(folder):
    publish_tag(folder, 1)
    (folder / "CURRENT").unlink()
    assert publish_tag(folder, 2).number == 2
    assert versions(folder) == [1, 2]


def test_gc_removes_leftovers_and_old_versions_only(folder):
    for tag in (1, 2, 3):
        publish_tag(folder, tag, keep=3)
    rollback(folder, 2)
    places = ("000009.building", "000001.removing", "000004")
    for name in places:
        (folder / "versions" / name).mkdir()
        (folder / "versions" / name / "half").write_bytes(b"half")
    (folder / "versions" / "000009.journal").write_bytes(b"half")
    (folder / "CURRENT.new").write_bytes(b"half")
    assert gc(folder, keep=2) == [
        "CURRENT.new",
        "versions/000004",
        "versions/000001.removing",
        "versions/000009.building",
        "versions/000009.journal",
        "versions/000001",
    ]
    assert versions(folder) == [2, 3]
    assert gc(folder, keep=1) == ["versions/000003"]
    assert tag_of(open_version(folder)) == 2
    assert gc(folder) == []


def test_a_base_that_is_no_longer_live_is_refused(folder):
    publish_tag(folder, 1)
    publish_tag(folder, 2)
    with pytest.raises(StorageError, match="version 2 of .* went live after version 1 was opened"):
        publish_tag(folder, 3, base=Position(1, 0))
    assert publish_tag(folder, 3, base=Position(2, 0)).number == 3


def test_changes_logged_while_a_version_was_built_are_carried_over(folder):
    version = publish_tag(folder, 1)
    journal = open_journal(version)
    merged = journal.append({"remove": ["sku-1"]})

    def write(path):
        fill(2)(path)
        journal.append({"remove": ["sku-2"]})
        journal.append({"add": [{"sku": "sku-3"}]})

    merged_version = publish(folder, write, details={"tag": 2}, base=merged)
    assert open_journal(merged_version).records() == [{"remove": ["sku-2"]}, {"add": [{"sku": "sku-3"}]}]
    with pytest.raises(StorageError, match="version 2 of .* went live after version 1"):
        journal.append({"remove": ["sku-4"]})


def test_without_a_base_a_new_version_starts_with_an_empty_journal(folder):
    open_journal(publish_tag(folder, 1)).append({"remove": ["sku-1"]})
    assert open_journal(publish_tag(folder, 2)).records() == []
    assert open_journal(rollback(folder, 1)).records() == [{"remove": ["sku-1"]}]


def test_a_reader_that_is_overtaken_by_two_publications_reads_the_newest(folder):
    publish_tag(folder, 1)
    overtaken = []

    class Overtaken(Files):
        def digest(self, path):
            if not overtaken:
                overtaken.append(True)
                publish_tag(folder, 2)
                publish_tag(folder, 3)
            return super().digest(path)

    assert tag_of(open_version(folder, files=Overtaken())) == 3


def test_storage_does_without_torch_numpy_and_polars():
    code = "import sys, genrail.storage; print([m for m in ('torch', 'numpy', 'polars') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
