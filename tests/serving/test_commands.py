"""The commands beside `genrail serve`: keys, snapshot, restore."""

import json

import pytest
from typer.testing import CliRunner

from genrail.cli.main import app
from genrail.engine import load
from genrail.serving.keys import read_keys
from tests.serving.clients import own_engine


def run(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result


def test_keys_are_made_listed_and_revoked(tmp_path):
    path = tmp_path / "keys.json"
    token = run("keys", "create", path, "shop", "--where", "price < 5", "--rate", 3).stdout.strip()
    assert read_keys(path).find(token).rate_per_second == 3
    [listed] = json.loads(run("keys", "list", path, "--json").stdout)["keys"]
    assert listed["where"] == "price < 5" and "sha256" not in listed
    assert token not in run("keys", "list", path).output
    run("keys", "revoke", path, "shop")
    assert read_keys(path).find(token) is None
    run("keys", "revoke", path, "shop", code=2)
    run("keys", "create", path, "boss", "--role", "owner", code=2)


def test_a_snapshot_comes_back_with_its_changes(tmp_path):
    own_engine().save(tmp_path / "shop.genrail")
    engine = load(tmp_path / "shop.genrail", live=True)
    engine.remove(["s1"])
    run("snapshot", tmp_path / "shop.genrail", tmp_path / "shop.tar.gz")
    run("restore", tmp_path / "shop.tar.gz", tmp_path / "elsewhere.genrail")
    back = load(tmp_path / "elsewhere.genrail")
    assert back.search("red boot", k=40).item_ids == engine.search("red boot", k=40).item_ids
    assert "s1" not in back.catalog
    run("snapshot", tmp_path / "shop.genrail", tmp_path / "shop.tar.gz", code=2)
    run("restore", tmp_path / "nothing.tar.gz", tmp_path / "third.genrail", code=2)


@pytest.mark.parametrize("verb", ["serve", "keys", "snapshot", "restore"])
def test_help_says_what_a_command_does(verb):
    assert "Usage" in run(verb, "--help").output
