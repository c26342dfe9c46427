"""A folder with any byte changed, missing or added is refused by name (B4)."""

import errno
import random
import shutil

import pytest

from genrail.errors import DamagedError, FormatError, StorageError
from genrail.storage import open_journal, open_version, publish, verify
from genrail.storage.manifest import MANIFEST, parse_version, seal, unseal
from tests.storage.content import NAMES, fill, tag_of
from tests.storage.faults import FailingFiles, interruptions

FILES = [*NAMES, MANIFEST]
PAGES = {name: f"versions/000002/{name}" for name in FILES} | {
    "CURRENT": "CURRENT",
    "journal": "versions/000002.journal",
}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "shop.genrail"
    for tag in (1, 2):
        publish(folder, fill(tag), details={"tag": tag})
    for number in range(3):
        open_journal(open_version(folder)).append({"remove": [f"sku-{number}"]})
    return folder


def load(folder):
    """Do what an engine does: open the version, read its changes."""
    version = open_version(folder)
    return version, open_journal(version)


def assert_refused(folder, name):
    with pytest.raises((DamagedError, FormatError), match=name):
        load(folder)
    assert any(name in problem for problem in problems_of(folder))


def problems_of(folder):
    try:
        return verify(folder)
    except FormatError as error:
        return [str(error)]


@pytest.mark.parametrize("page", PAGES)
def test_a_flipped_bit_is_found(folder, page, samples=40):
    flip_bits(folder, page, samples)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_flipped_bit_is_found_wherever_it_is(folder, page):
    flip_bits(folder, page, None)


def flip_bits(folder, page, samples):
    path = folder / PAGES[page]
    whole = path.read_bytes()
    bits = range(8 * len(whole))
    for bit in bits if samples is None else random.Random(page).sample(bits, samples):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        assert_refused(folder, path.name)
    path.write_bytes(whole)
    assert verify(folder) == []


@pytest.mark.parametrize("page", PAGES)
def test_a_truncated_file_is_found(folder, page):
    path = folder / PAGES[page]
    whole = path.read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        if page == "journal" and size > 200:
            # It ends like one that was being written: the rest is whole, and the loss is reported.
            version, journal = load(folder)
            assert journal.torn_bytes > 0 and path.name in verify(folder)[0]
        else:
            assert_refused(folder, path.name)


@pytest.mark.parametrize("page", PAGES)
def test_a_deleted_file_is_found(folder, page):
    (folder / PAGES[page]).unlink()
    assert_refused(folder, (folder / PAGES[page]).name)


@pytest.mark.parametrize("page", FILES)
def test_a_file_of_another_version_is_found(folder, page):
    shutil.copy(folder / "versions/000001" / page, folder / "versions/000002" / page)
    assert_refused(folder, (folder / PAGES[page]).name)


def test_two_swapped_files_are_found_even_when_they_have_one_size(folder):
    one, other = (folder / PAGES[name] for name in NAMES[:2])
    assert one.stat().st_size == other.stat().st_size
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)
    assert_refused(folder, one.name)
    assert tag_of_sizes(folder) == 2, "sizes alone cannot tell"


def tag_of_sizes(folder):
    return open_version(folder, verify="sizes").details["tag"]


def test_a_whole_version_from_another_folder_is_found(folder, tmp_path):
    other = tmp_path / "other.genrail"
    for tag in (1, 7):
        publish(other, fill(tag), details={"tag": tag})
    shutil.rmtree(folder / "versions/000002")
    shutil.copytree(other / "versions/000002", folder / "versions/000002")
    assert_refused(folder, MANIFEST)


def test_a_file_that_is_not_in_the_manifest_is_found(folder):
    (folder / "versions/000002/model/adapter_config.json").write_text("{}")
    assert_refused(folder, "adapter_config.json is not in the manifest")
    with pytest.raises(DamagedError, match="not in the manifest"):
        open_version(folder, verify="sizes")


def test_damage_of_an_earlier_version_is_reported_and_blocks_nothing(folder):
    (folder / "versions/000001" / NAMES[0]).write_bytes(b"")
    assert len(verify(folder)) == 1 and NAMES[0] in verify(folder)[0]
    assert tag_of(load(folder)[0]) == 2
    with pytest.raises(DamagedError):
        open_version(folder, number=1)


def test_verify_lists_everything_that_is_wrong(folder):
    for name in NAMES:
        (folder / PAGES[name]).unlink()
    (folder / "versions/000001" / MANIFEST).unlink()
    assert len(verify(folder)) == 4


@pytest.mark.parametrize(
    "where", ["versions/000002/items.parquet", "versions/000002", "versions", "CURRENT", "versions/000002.journal"]
)
def test_links_are_not_followed(folder, tmp_path, where):
    path = folder / where
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises((DamagedError, FormatError)):
        load(folder)


def test_a_link_to_the_very_same_content_is_no_plain_file(folder):
    path = folder / PAGES[NAMES[0]]
    size = path.stat().st_size
    path.rename(path.with_name("x" * size))
    path.symlink_to("x" * size)
    assert path.lstat().st_size == size and path.stat().st_size == size
    with pytest.raises(DamagedError, match="is not a plain file"):
        open_version(folder)


@pytest.mark.parametrize(
    "name", ["../CURRENT", "/etc/hosts", "a/../../b", "", "a\\..\\b", "C:/x", "manifest.json", "a\x00b"]
)
def test_a_manifest_that_leads_outside_is_refused_though_its_seal_is_right(folder, name):
    path = folder / "versions/000002"
    page = unseal((path / MANIFEST).read_bytes(), path)
    page["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    with pytest.raises(DamagedError, match="which is no file inside the version"):
        parse_version(seal(page), path)


@pytest.mark.parametrize(
    "harm", [{"number": "x"}, {"files": 3}, {"files": {"a": {}}}, {"details": [1]}, {"kind": None}]
)
def test_a_manifest_without_sense_is_refused_though_its_seal_is_right(folder, harm):
    path = folder / "versions/000002"
    page = unseal((path / MANIFEST).read_bytes(), path)
    page.update(harm)
    if harm == {"kind": None}:
        del page["kind"]
    with pytest.raises(DamagedError, match="lacks what a manifest has"):
        parse_version(seal(page), path)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b"{", b"[" * 100_000, b"\xff\xfe", b'{"a": NaN}', b'{"format_version": 1}']
)
def test_pages_of_rubbish_are_refused(folder, data):
    for page in ("CURRENT", MANIFEST):
        path = folder / PAGES[page]
        whole = path.read_bytes()
        path.write_bytes(data)
        assert_refused(folder, page)
        path.write_bytes(whole)


def test_a_disk_that_cannot_be_read_is_named(folder):
    for files in interruptions(lambda at: FailingFiles(at, errno.EIO)):
        try:
            open_journal(open_version(folder, files=files), files=files)
        except StorageError as error:
            assert str(folder) in str(error)
            assert "Input/output error" in str(error)
    assert files.at >= 6
