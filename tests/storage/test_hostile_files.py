"""Files that somebody laid there to harm: links in the place of ours, archives that declare more than they hold."""

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import textwrap

import pytest

from genrail.errors import DamagedError, FormatError, StorageError
from genrail.storage import open_journal, open_version, publish, restore, snapshot
from genrail.storage.journal import frame
from genrail.storage.lock import hold
from tests.storage.content import fill, tag_of


@pytest.fixture
def folder(tmp_path):
    publish(tmp_path / "shop.genrail", fill(1), details={"tag": 1})
    return tmp_path / "shop.genrail"


@pytest.fixture
def precious(tmp_path):
    path = tmp_path / "precious"
    path.write_text("of somebody else")
    return path


def act(folder, name):
    if name == "publish":
        publish(folder, fill(2), details={"tag": 2})
    else:
        open_journal(open_version(folder)).append({"add": [1]})


@pytest.mark.parametrize("name", ["build.owner", "append.owner", "build.lock", "append.lock", "CURRENT.new"])
@pytest.mark.parametrize("verb", ["publish", "append"])
def test_no_link_in_a_folder_leads_a_writer_elsewhere(folder, precious, name, verb):
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(precious)
    try:
        act(folder, verb)
    except StorageError as error:
        assert str(folder) in str(error)
    assert precious.read_text() == "of somebody else"


def test_the_sign_of_a_lock_is_private(folder):
    (folder / "build.owner").write_text("left by somebody")
    (folder / "build.owner").chmod(0o666)
    with hold(folder, "build"):
        assert (folder / "build.owner").stat().st_mode & 0o777 == 0o600
        assert json.loads((folder / "build.owner").read_text())["pid"] == os.getpid()


def test_a_snapshot_follows_no_link_and_is_private(folder, precious, tmp_path):
    (tmp_path / "shop.tar.gz.partial").symlink_to(precious)
    snapshot(folder, tmp_path / "shop.tar.gz")
    assert precious.read_text() == "of somebody else"
    assert (tmp_path / "shop.tar.gz").stat().st_mode & 0o777 == 0o600
    assert tag_of(restore(tmp_path / "shop.tar.gz", tmp_path / "back.genrail")) == 1


# --- archives ---------------------------------------------------------------------------------------------------------


def block(name, kind, size):
    """Write one header of a tar, whatever it declares."""
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def zeros(mebibytes):
    return (bytes(2**20) for _ in range(mebibytes))


BOMBS = {
    "a manifest": [block("manifest.json", tarfile.REGTYPE, 2**30)],
    "a long name": [block("././@LongLink", tarfile.GNUTYPE_LONGNAME, 2**30)],
    "an extended header": [block("pax", tarfile.XHDTYPE, 2**30)],
    "a global header": [block("pax", tarfile.XGLTYPE, 2**30)],
    "headers without end": [block("pax", tarfile.XHDTYPE, 0) * 20_000],
}
RESTORE = """
    import re, sys
    from pathlib import Path
    from genrail.errors import StorageError
    from genrail.storage import restore
    def highest():
        return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
    before = highest()
    try:
        restore(sys.argv[1], sys.argv[2])
    except StorageError as error:
        more = highest() - before
        sys.exit(0 if more < 200_000 and sys.argv[1] in str(error) else f"{more} KiB more: {error}")
"""


@pytest.mark.parametrize("name", BOMBS)
def test_an_archive_that_declares_much_costs_little_memory(tmp_path, name):
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as packed:
        for part in BOMBS[name]:
            packed.write(part)
        for part in zeros(300):
            packed.write(part)
    assert path.stat().st_size < 3 * 2**20
    refuses(path, tmp_path)


def test_a_journal_may_not_unpack_to_many_times_the_archive(folder, tmp_path):
    snapshot(folder, tmp_path / "shop.tar.gz")
    with tarfile.open(tmp_path / "shop.tar.gz") as tar:
        manifest = tar.extractfile("manifest.json").read()
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as packed:
        packed.write(block("manifest.json", tarfile.REGTYPE, len(manifest)))
        packed.write(manifest + bytes(-len(manifest) % 512))
        packed.write(block("journal", tarfile.REGTYPE, 300 * 2**20))
        for part in zeros(300):
            packed.write(part)
    refuses(path, tmp_path)


def refuses(path, tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(RESTORE), str(path), str(tmp_path / "new.genrail")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert not (tmp_path / "new.genrail" / "CURRENT").exists()


def test_large_journals_that_are_real_come_back(folder, tmp_path):
    journal = open_journal(open_version(folder))
    records = [
        {"add": [{"sku": f"s{number}-{place}", "name": "red boot"} for place in range(2000)]} for number in range(30)
    ]
    for record in records:
        journal.append(record)
    snapshot(folder, tmp_path / "shop.tar.gz")
    back = restore(tmp_path / "shop.tar.gz", tmp_path / "back.genrail")
    assert open_journal(back).records() == records


@pytest.mark.parametrize("header", [b"[]", b"5", b"null", b'{"format_version": "1"}', b"[" * 50_000, b"\xff"])
def test_a_log_whose_first_record_is_odd_is_damaged_by_name(folder, header):
    path = folder / "versions" / "000001.journal"
    path.write_bytes(frame(header, 0))
    with pytest.raises((DamagedError, FormatError), match="000001.journal"):
        open_journal(open_version(folder))


def test_an_archive_of_noise_is_refused(tmp_path):
    for number, noise in enumerate([b"", b"noise", gzip.compress(b"noise" * 1000), gzip.compress(bytes(10_240))]):
        path = tmp_path / f"{number}.tar.gz"
        path.write_bytes(noise)
        with pytest.raises(StorageError, match=path.name):
            restore(path, tmp_path / "new.genrail")
    with tarfile.open(tmp_path / "negative.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("manifest.json"), io.BytesIO())
    with pytest.raises(StorageError, match="negative"):
        restore(tmp_path / "negative.tar.gz", tmp_path / "new.genrail")
