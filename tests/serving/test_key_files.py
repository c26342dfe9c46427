"""A file of keys is whole and private, or it is refused by its name when a server starts."""

import json
import threading

import pytest

from genrail.errors import DamagedError, SettingsError, StorageError
from genrail.serving import keys as module
from genrail.serving.keys import Key, create_key, read_keys, revoke_key
from genrail.serving.running import FileOfKeys

GOOD = {"name": "shop", "role": "read", "where": None, "rate_per_second": None, "sha256": "0" * 64, "created": ""}
MALFORMED = {
    "no JSON": "{",
    "no object": "[]",
    "a text": '"keys"',
    "no keys in it": "{}",
    "keys that are a number": '{"keys": 5}',
    "a key that is a number": '{"keys": [5]}',
    "a key that is a text": '{"keys": ["shop"]}',
    "nested without end": "[" * 100_000,
    "no UTF-8": b"\xff\xfe",
    "an unknown field": {"rol": "admin"},
    "a name that is a number": {"name": 5},
    "a name with a blank": {"name": "a b"},
    "a role that is a list": {"role": ["admin"]},
    "another role": {"role": "owner"},
    "no hash": {"sha256": None},
    "a hash that is too short": {"sha256": "00"},
    "a hash that is a number": {"sha256": 5},
    "a rate in words": {"rate_per_second": "5"},
    "a rate that is true": {"rate_per_second": True},
    "a rate without end": {"rate_per_second": float("inf")},
    "no number as a rate": {"rate_per_second": float("nan")},
    "a filter that is a number": {"where": 5},
    "half a filter": {"where": "price <"},
    "an empty filter": {"where": ""},
    "a moment that is a number": {"created": 5},
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_of_keys_is_refused_at_start_by_name(tmp_path, name):
    content, path = MALFORMED[name], tmp_path / "mine.json"
    if isinstance(content, dict):
        content = json.dumps({"keys": [{**GOOD, **content}]})
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DamagedError, match=r"mine\.json is no file of keys") as found:
        FileOfKeys(path)
    assert str(found.value).count("\n") == 0


def test_two_keys_of_one_name_are_refused(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps({"keys": [GOOD, GOOD]}))
    with pytest.raises(DamagedError, match=r"mine\.json holds two keys named 'shop'"):
        read_keys(tmp_path / "mine.json")


def test_a_file_that_becomes_malformed_leaves_the_keys_as_they_were(tmp_path):
    path = tmp_path / "mine.json"
    token = create_key(path, Key("shop"))
    current = FileOfKeys(path)
    for content in ("{", json.dumps({"keys": [{**GOOD, "sha256": 5}]})):
        path.write_text(content)
        current._looked = float("-inf")
        assert current().find(token) is not None


def test_no_link_leads_the_writer_of_keys_elsewhere(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("of somebody else")
    for name in ("mine.json.partial", "mine.json.owner"):
        (tmp_path / name).symlink_to(precious)
    create_key(tmp_path / "mine.json", Key("one"))
    revoke_key(tmp_path / "mine.json", "one")
    assert precious.read_text() == "of somebody else"
    assert (tmp_path / "mine.json").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "mine.json.partial").exists()


def test_two_who_make_keys_at_once_lose_none(tmp_path):
    path = tmp_path / "mine.json"
    threads = [threading.Thread(target=create_key, args=(path, Key(f"k{number}"))) for number in range(12)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert {key.name for key in read_keys(path)} == {f"k{number}" for number in range(12)}


def test_a_disk_that_does_not_sync_leaves_the_keys_as_they_were(tmp_path, monkeypatch):
    path = tmp_path / "mine.json"
    token = create_key(path, Key("one"))
    before = path.read_bytes()

    def fail(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module.os, "fsync", fail)
    with pytest.raises(StorageError, match=r"mine\.json"):
        create_key(path, Key("two"))
    with pytest.raises(StorageError, match=r"mine\.json"):
        revoke_key(path, "one")
    assert path.read_bytes() == before and read_keys(path).find(token) is not None
    assert not (tmp_path / "mine.json.partial").exists()


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingsError, match="nowhere is no folder"):
        create_key(tmp_path / "nowhere" / "mine.json", Key("one"))
