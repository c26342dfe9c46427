"""An acknowledged change stays; a half written one vanishes; anything else is refused."""

import errno
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrail.errors import DamagedError, FormatError, StorageError
from genrail.storage import Files, open_journal, open_version, publish, verify
from genrail.storage.current import journal_path
from genrail.storage.journal import frame, fresh_journal, scan
from tests.storage.content import fill
from tests.storage.faults import FailingFiles, interruptions

RECORDS = [
    {"remove": ["sku-1"]},
    {"add": [{"sku": "sku-2", "name": "Gummistiefel für Ünal", "price": 9.5}]},
    {"n": None},
]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def version(tmp_path):
    return publish(tmp_path / "shop.genrail", fill(1), details={"tag": 1})


@pytest.fixture
def path(version):
    return journal_path(version.folder, version.number)


def append_all(version):
    journal = open_journal(version)
    for record in RECORDS:
        journal.append(record)
    return journal


def test_changes_come_back_in_order(version):
    journal = append_all(version)
    assert journal.records() == RECORDS == open_journal(version).records()
    assert len(journal) == 3
    assert journal.position == open_journal(version).position
    assert (journal.position.number, journal.position.records) == (1, 3)


@given(st.lists(st.dictionaries(st.text(), values, max_size=3), max_size=5))
@settings(max_examples=100)
def test_any_plain_values_survive_framing(records):
    import json

    from genrail.storage.journal import _encode

    found = scan(fresh_journal(1, "0" * 64, [_encode(record) for record in records]), None)
    assert [json.loads(payload) for payload in found.payloads[1:]] == records
    assert found.torn_bytes == 0


@pytest.mark.parametrize("record", [{"a": float("inf")}, {(1, 2): "a"}, ["list"], {"a": object()}, {"a": {1}}])
def test_what_is_no_plain_dict_is_refused_and_nothing_is_logged(version, record):
    journal = open_journal(version)
    with pytest.raises(StorageError, match="cannot be written as JSON"):
        journal.append(record)
    assert open_journal(version).records() == []


def test_every_torn_tail_is_noticed_left_alone_by_readers_and_cut_by_the_next_append(version, path):
    append_all(version)
    whole = path.read_bytes()
    start = scan(whole, path).ends[-2]
    for end in range(start + 1, len(whole)):
        path.write_bytes(whole[:end])
        journal = open_journal(version)
        assert journal.torn_bytes == end - start
        assert journal.records() == RECORDS[:2]
        assert path.read_bytes() == whole[:end]
        assert "never acknowledged" in verify(version.folder)[0]
        journal.append({"after": end})
        assert journal.torn_bytes == 0
        assert open_journal(version).records() == [*RECORDS[:2], {"after": end}]
        assert verify(version.folder) == []


def test_blocks_that_never_reached_the_device_are_a_torn_tail(version, path):
    append_all(version)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(300))
    assert open_journal(version).torn_bytes == 300
    record = frame(b'{"title": "a long one that spans blocks"}', scan(whole, path).checks[-1])
    path.write_bytes(whole + record[:30] + bytes(len(record) - 30))
    assert open_journal(version).torn_bytes == len(record)
    assert open_journal(version).records() == RECORDS


def test_every_flipped_bit_before_the_tail_is_refused_by_name(version, path):
    append_all(version)
    whole = path.read_bytes()
    for offset in range(len(whole)):
        data = bytearray(whole)
        data[offset] ^= 1 << random.Random(offset).randrange(8)
        path.write_bytes(data)
        with pytest.raises(DamagedError, match=r"000001\.journal is damaged in record \d"):
            open_journal(version)


def test_records_that_were_dropped_moved_or_doubled_are_refused(version, path):
    append_all(version)
    whole = path.read_bytes()
    header, first, second, third = scan(whole, path).ends
    parts = [whole[:header], whole[header:first], whole[first:second], whole[second:third]]
    for order in ([0, 2, 3], [0, 2, 1, 3], [0, 1, 1, 2, 3], [1, 2, 3], [0, 3]):
        path.write_bytes(b"".join(parts[number] for number in order))
        with pytest.raises(DamagedError, match="is damaged in record"):
            open_journal(version)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 40])
def test_a_log_without_its_first_record_is_refused(version, path, size):
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DamagedError, match="is damaged in record 0"):
        open_journal(version)


def test_a_missing_log_is_refused(version, path):
    path.unlink()
    with pytest.raises(DamagedError, match=r"000001\.journal is missing"):
        open_journal(version)


def test_a_log_belongs_to_one_version(version, path):
    second = publish(version.folder, fill(2), details={"tag": 2})
    path.write_bytes(journal_path(second.folder, second.number).read_bytes())
    with pytest.raises(DamagedError, match="belongs to another version"):
        open_journal(version)
    path.write_bytes(fresh_journal(1, "0" * 64))
    with pytest.raises(DamagedError, match="belongs to another version"):
        open_journal(version)


def test_a_newer_log_is_refused_with_the_command_that_helps(version, path):
    path.write_bytes(frame(b'{"format": "genrail journal", "format_version": 2}', 0))
    with pytest.raises(FormatError, match="format version 2.*pip install --upgrade genrail"):
        open_journal(version)


def test_two_processes_cannot_log_past_each_other(version):
    mine, theirs = open_journal(version), open_journal(version)
    theirs.append({"remove": ["sku-1"]})
    with pytest.raises(StorageError, match="another process changed .*; call refresh"):
        mine.append({"remove": ["sku-1"]})
    assert mine.records() == []
    assert mine.refresh() == [{"remove": ["sku-1"]}]
    assert mine.refresh() == []
    mine.append({"remove": ["sku-2"]})
    assert theirs.refresh() == [{"remove": ["sku-2"]}]


def test_a_log_that_lost_records_while_it_was_open_is_refused(version, path):
    journal = append_all(version)
    path.write_bytes(path.read_bytes()[: scan(path.read_bytes(), path).ends[1]])
    with pytest.raises(DamagedError, match="lost records"):
        journal.refresh()
    with pytest.raises(StorageError, match="another process changed"):
        journal.append({"more": 1})


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("for_good", [False, True])
def test_a_disk_that_fails_during_an_append_loses_nothing_acknowledged(version, number, for_good):
    acknowledged = []
    for files in interruptions(lambda at: FailingFiles(at, number, for_good)):
        record = {"try": files.at}
        try:
            open_journal(version, files=files).append(record)
            acknowledged.append(record)
        except StorageError as error:
            assert str(version.folder) in str(error)
        records = open_journal(version).records()
        unacknowledged = [record for record in records if record not in acknowledged]
        # When the disk refuses even to take the record back, it may stay: it was refused, yet it is whole.
        assert len(unacknowledged) <= (1 if for_good else 0)
        assert [record for record in records if record in acknowledged] == acknowledged
        if unacknowledged:
            acknowledged.insert(records.index(record), record)
    assert acknowledged


def test_a_journal_goes_on_after_a_failed_append(version):
    class FullForOnce(Files):
        appends = 0

        def append(self, path, data):
            self.appends += 1
            if self.appends == 2:
                super().append(path, data[:20])
                raise OSError(errno.ENOSPC, "full", str(path))
            super().append(path, data)

    journal = open_journal(version, files=FullForOnce())
    journal.append({"n": 0})
    with pytest.raises(StorageError, match="the disk is full while appending"):
        journal.append({"n": 1})
    journal.append({"n": 2})
    assert open_journal(open_version(version.folder)).records() == [{"n": 0}, {"n": 2}] == journal.records()


def test_a_change_to_a_version_that_is_no_longer_live_is_refused(version):
    journal = open_journal(version)
    publish(version.folder, fill(2), details={"tag": 2})
    with pytest.raises(StorageError, match="version 2 of .* went live after version 1 was opened"):
        journal.append({"lost": True})
    assert open_journal(version).records() == []
