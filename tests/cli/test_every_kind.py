"""Every kind of finder is built, asked, changed, opened again and served from the command line."""

from __future__ import annotations

import csv
import inspect
import json

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("transformers")

import genrail
from genrail.cli.main import app
from genrail.cli.reading import OPTIONS
from genrail.engine import Engine
from genrail.serving.host import Host

ITEMS = 14
COLOURS, KINDS = ("red", "blue", "green"), ("boot", "sandal", "clog", "slipper")
NAMES = ("--id", "sku", "--title", "name")
HASHING = ("--encoder", "hashing")
LEARNING = ("--set", "epochs=1")
LANGUAGE_MODEL = ("--set", "pseudo_queries=1", "--set", "next_items=6", "--levels", 2, *LEARNING)
SMALL_T5 = ("--set", "width=16", "--set", "layers=1", "--set", "heads=1", "--set", "head_width=8", "--set", "beam=4")
WAYS = {
    "bm25": (),
    "tfidf": (),
    "lookup": (),
    "dense": (),
    "popularity": (),
    "cooccurrence": (),
    "item-knn": (),
    "late-interaction": ("--set", "dimensions=16"),
    "sasrec": ("--set", "width=8", "--set", "loop.epochs=1"),
    "two-tower": ("--set", "rounds=1", *LEARNING),
    "tiger": (*SMALL_T5, *LEARNING),
    "tiger attributes": (*SMALL_T5, "--identifiers", "attributes", "--set", "training.loop.epochs=1"),
    "native rqvae": ("--identifiers", "rqvae", "--levels", 2, *LEARNING),
    "native attributes": ("--identifiers", "attributes", *LEARNING),
    "titles": ("--model",),
    "in-prompt": ("--set", "max_tokens=2", "--model"),
    "codes": (*LANGUAGE_MODEL, "--model"),
    "codes lsh": (*LANGUAGE_MODEL, "--identifiers", "lsh", "--model"),
    "seal": ("--set", "width=4", "--set", "length=3", "--model"),
    "fused": ("--lanes", "bm25,cooccurrence"),
    "fused seal": ("--lanes", "bm25,seal", "--set", 'settings={"seal": {"width": 4, "length": 3}}', "--model"),
}


def good(*words):
    result = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})
    assert result.exit_code == 0, f"{words}\n{result.output}\n{result.exception!r}"
    return result


def asked(*words):
    return [hit["item_id"] for hit in json.loads(good(*words, "--json").stdout)["hits"]]


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def product(number):
    colour, kind = COLOURS[number % 3], KINDS[number % 4]
    title = f"{colour} {kind} {number}"
    return {"sku": f"s{number}", "name": title, "category": kind, "colour": colour, "price": 10 + number}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write a tiny shop, its events and a tiny language model."""
    from tests.models import checkpoints

    folder = tmp_path_factory.mktemp("kinds")
    write(folder / "shop.csv", [product(number) for number in range(ITEMS)])
    write(folder / "new.csv", [product(50)])
    events = [
        {"user": f"u{user}", "item": f"s{(3 * user + 4 * step) % ITEMS}", "timestamp": 10 * user + step}
        for user in range(10)
        for step in range(4)
    ]
    write(folder / "events.csv", events)
    tokenizer = checkpoints.tokenizer()
    room = len(tokenizer) + 8  # the tokenizer that transformers opens for this family adds a token of its own
    checkpoints.model("qwen2", room, max_position_embeddings=1024).save_pretrained(folder / "lm")
    tokenizer.save_pretrained(folder / "lm")
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_from_a_file_to_a_served_answer(way, files, tmp_path):
    folder, kind = tmp_path / "e", way.partition(" ")[0]
    options = [*WAYS[way], files / "lm"] if WAYS[way][-1:] == ("--model",) else WAYS[way]
    events = ("--interactions", files / "events.csv")
    good("build", files / "shop.csv", *NAMES, *events, "--recipe", kind, *HASHING, "--out", folder, *options)
    cheap = {f"s{number}" for number in range(6)}
    assert set(asked("search", folder, "red boot", "--where", "price < 16", "-k", 20)) == cheap
    past = asked("recommend", folder, "--history", "s1,s2", "--where", "price < 16", "-k", 20)
    assert set(past) == cheap - {"s1", "s2"}
    good("add", folder, files / "new.csv")
    assert asked("search", folder, "green clog", "--where", "price > 55", "-k", 3) == ["s50"]
    assert "s50" in asked("search", folder, product(50)["name"], "-k", ITEMS + 1)
    good("remove", folder, "s3")
    assert "s3" not in asked("search", folder, "blue slipper", "-k", 30)
    again = genrail.load(folder)
    ids = {hit.item_id for hit in again.search("red boot", k=30)}
    assert ids == ({f"s{number}" for number in range(ITEMS)} | {"s50"}) - {"s3"}
    page = Host(again).answer({"questions": [{"text": "red boot", "where": "price < 16"}], "k": 20, "tenant": None})
    assert {hit["id"] for hit in page["answers"][0]["hits"]} == cheap - {"s3"}


def test_rails_of_attribute_codes_are_words(files, tmp_path):
    scheme = ("--recipe", "native", "--identifiers", "attributes")
    good("build", files / "shop.csv", *NAMES, *scheme, *HASHING, *LEARNING, "--out", tmp_path / "e")
    drawn = good("search", tmp_path / "e", "red boot", "--explain").stdout
    assert "colour red" in drawn
    assert "colour red / category boot" in drawn


def test_every_argument_of_build_that_is_no_setting_has_an_option_to_point_to():
    for method in (Engine.build, Engine.train):
        assert set(inspect.signature(method).parameters) <= {*OPTIONS, "self", "progress", "settings"}


def test_a_setting_that_does_not_exist_or_is_not_clear_is_named(files, tmp_path):
    wrong = [
        "eppochs=1 has no setting eppochs",
        "width=8 has no setting width",
        "seed=3 use --seed",
        "catalog=x CATALOG",
    ]
    for setting, said in (one.split(" ", 1) for one in wrong):
        result = CliRunner().invoke(
            app, ["build", str(files / "shop.csv"), "--recipe", "bm25", "--set", setting, "--out", str(tmp_path / "e")]
        )
        assert result.exit_code == 2
        assert said in " ".join(result.output.split())


def test_a_language_model_is_taught_from_the_command_line(files, tmp_path):
    folder, curve = tmp_path / "e", tmp_path / "curve.jsonl"
    write(tmp_path / "queries.csv", [{"query_id": f"q{n}", "query": f"number {n}"} for n in range(ITEMS)])
    write(tmp_path / "qrels.csv", [{"query_id": f"q{n}", "item_id": f"s{n}", "relevance": 1} for n in range(ITEMS)])
    judged = ("--queries", tmp_path / "queries.csv", "--qrels", tmp_path / "qrels.csv")
    events = ("--interactions", files / "events.csv")
    good("build", files / "shop.csv", *NAMES, "--model", files / "lm", "--out", folder)
    shown = json.loads(good("train", folder, *judged, *events, "--show", 1, "--json").stdout)["examples"]
    assert [one["source"] for one in shown] == ["history", "judged", "text"]
    assert "number" in good("train", folder, *judged, "--show", 2).stdout
    assert not (folder / "versions" / "000002").exists()
    how = ("--recipe", "sft", "--set", "learns=all", "--set", "epochs=1", "--set", "pseudo_queries=0")
    told = json.loads(good("train", folder, *judged, *events, *how, "--curve", curve, "--json").stdout)
    assert told["pairs"]["judged"] == ITEMS - 2 and told["loop"]["best"]["nDCG@10"] >= 0
    assert json.loads(curve.read_text())["epoch"] == 1
    good("build", files / "shop.csv", *NAMES, "--recipe", "bm25", "--out", tmp_path / "teacher")
    taught = ("--recipe", "distill", "--teacher", tmp_path / "teacher", *how[2:6], "--set", "pseudo_queries=1")
    told = json.loads(good("train", folder, *taught, "--json").stdout)
    assert set(told["pairs"]) == {"teacher"}
    assert len(asked("search", folder, "number 3", "-k", 3)) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--recipe", "hearsay"), "recipe is 'hearsay'"),
        (("--recipe", "distill"), "nobody teaches"),
        (("--recipe", "align", "--set", "learns=all"), "has no codes"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_sentence(files, tmp_path, options, said):
    good("build", files / "shop.csv", *NAMES, "--model", files / "lm", "--out", tmp_path / "e")
    result = CliRunner().invoke(app, ["train", str(tmp_path / "e"), *options], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
