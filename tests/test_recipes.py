"""The recipes run to the end on any folder: with texts, with a title alone, and with ids alone."""

import csv
import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

RECIPES = Path(__file__).parents[1] / "recipes"
ITEMS, USERS, COLOURS = 40, 40, ("red", "blue", "green")
TEXTS = {
    "texts": lambda item: {"name": f"{COLOURS[item % 3]} thing {item // 2}", "maker": f"maker {item % 4}"},
    "a title": lambda item: {"title": f"{COLOURS[item % 3]} thing {item // 2}"},
    "a lone text": lambda item: {"words on it": f"this {COLOURS[item % 3]} thing is number {item}"},
    "ids": lambda item: {},
}


def write(path, rows):
    opened = gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="")
    with opened as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def folder_of(path, texts):
    """Write a small set with what real ones have: an item nobody took, twins, users of one event."""
    path.mkdir()
    write(path / "items.csv", [{"item_id": f"id-{item}", **TEXTS[texts](item)} for item in range(ITEMS)])
    random = np.random.default_rng(0)
    starts = random.integers(0, ITEMS - 1, USERS).tolist()
    sequences = [
        {"user_id": f"u{user}", "item_ids": " ".join(f"id-{(start + step) % (ITEMS - 1)}" for step in range(6))}
        for user, start in enumerate(starts)
    ]
    sequences.append({"user_id": "lonely", "item_ids": "id-3"})
    write(path / "sequences.csv.gz", sequences)
    return path


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a recipe's `main` in this process; give what it printed."""
    monkeypatch.syspath_prepend(str(RECIPES))

    def call(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        __import__(name).main()
        return capsys.readouterr().out

    return call


@pytest.mark.parametrize("texts", TEXTS)
def test_methods_on_any_folder(run, tmp_path, texts):
    folder, figures = folder_of(tmp_path / "set", texts), tmp_path / "figures.json"
    run("methods", folder, "--methods", "cooccurrence", "item-knn", "bm25", "popularity", "--json", figures,
        "--reports", tmp_path / "reports")  # fmt: skip
    (found,) = json.loads(figures.read_text())["runs"]
    metrics = {name: one["metrics"]["R@10"] for name, one in found["histories, seen items excluded"]["methods"].items()}
    assert metrics["Co-occurrence"] > 0.8  # the next item always follows the last one
    assert metrics["Popularity"] < metrics["Co-occurrence"]
    assert len(list((tmp_path / "reports").glob("*.html"))) == 2


def test_methods_compares_words_too_and_tells_what_it_leaves_out(run, tmp_path):
    folder = folder_of(tmp_path / "set", "a title")
    (folder / "sequences.csv.gz").unlink()
    write(folder / "queries.csv", [{"query_id": f"q{item}", "query": f"thing {item}"} for item in range(10)])
    qrels = [{"query_id": f"q{item}", "item_id": f"id-{2 * item}", "relevance": 1} for item in range(10)]
    write(folder / "qrels.csv", qrels)
    printed = run("methods", folder, "--methods", "bm25", "tfidf", "sasrec")
    assert "sasrec is left out" in printed and "\nBM25 " in printed and "\nTF-IDF " in printed


def model_and_queries(place):
    """Write a tiny language model, and a set with four judged queries; give both, and where figures go."""
    from tests.models import checkpoints

    tokenizer = checkpoints.tokenizer()
    model = checkpoints.model("llama", len(tokenizer) + 8, max_position_embeddings=1024)
    for part in (model, tokenizer):
        part.save_pretrained(place / "model")
    folder = folder_of(place / "set", "texts")
    write(folder / "queries.csv", [{"query_id": f"q{item}", "query": f"red {item}"} for item in range(4)])
    qrels = [{"query_id": f"q{item}", "item_id": f"id-{3 * item}", "relevance": 1} for item in range(4)]
    write(folder / "qrels.csv", qrels)
    return folder, place / "model", place / "figures.json"


def test_a_language_model_writes_and_ranks_on_any_folder(run, tmp_path):
    pytest.importorskip("transformers")
    folder, model, figures = model_and_queries(tmp_path)
    run("language_model", folder, "--model", model, "--part", "write", "recommend", "--users", 3,
        "--queries", 3, "--prompts", "plain", "few-shot", "--spellings", "title", "{maker}: {title}", "--width", 4,
        "--ends", "newline",
        "--depth", 5, "--scorers", "title-likelihood", "rails", "--json", figures)  # fmt: skip
    found = json.loads(figures.read_text())
    assert found["queries"] == 3
    assert [(row["prompt"], row["spelling"], row["weight"]) for row in found["write"]] == [
        (prompt, spelling, weight)
        for prompt in ("plain", "few-shot")
        for spelling in ("title", "{maker}: {title}")
        for weight in (0.0, 0.5, 1.0)
    ]
    assert [row["scorer"] for row in found["recommend"]] == ["title-likelihood", "rails"]


def test_a_language_model_writes_queries_about_any_folder(run, tmp_path):
    pytest.importorskip("transformers")
    folder, model, _ = model_and_queries(tmp_path)
    printed = run("written_queries", folder, "--model", model, "--items", 3, "--queries", 2, "--file",
        tmp_path / "written.jsonl").splitlines()  # fmt: skip
    figures = json.loads(next(line for line in printed if line.startswith("{")))
    assert figures["written"] == 6 == figures["kept"] + figures["repeated"] + figures["not found"]
    assert figures["written a second"] > 0 and (tmp_path / "written.jsonl").exists()


@pytest.mark.slow
def test_a_language_model_is_taught_on_any_folder(run, tmp_path):
    pytest.importorskip("peft")
    folder, model, figures = model_and_queries(tmp_path)
    run("teach", folder, "--model", model, "--part", "words", "histories", "speed", "--minutes", 0.01,
        "--users", 5, "--validation", 4, "--requests", 8, "--layers", 1, "--json", figures)  # fmt: skip
    found = json.loads(figures.read_text())
    assert set(found["words"]) == {"untaught", "bm25 + dense", "sft", "distill"}
    assert found["speed"]["rails, lora, packed"]["ratio"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("texts", TEXTS)
@pytest.mark.parametrize("recipe", ["default_engine", "new_items", "identifiers", "distillation"])
def test_recipes_that_train_on_any_folder(run, tmp_path, recipe, texts):
    figures = tmp_path / "figures.json"
    few = ["--identifiers", "kmeans", "lsh"] if recipe == "identifiers" else []
    folder = folder_of(tmp_path / "set", texts)
    run(recipe, folder, "--users", 20, "--epochs", 1, "--json", figures, *few)
    assert "machine" in json.loads(figures.read_text())


def test_a_folder_without_items_or_tested_users_is_one_sentence(run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="holds no items"):
        run("methods", tmp_path / "empty")


def test_seal_on_any_folder(run, tmp_path):
    pytest.importorskip("peft")
    from tests.models import checkpoints

    folder, figures = folder_of(tmp_path / "set", "texts"), tmp_path / "figures.json"
    for ending, first in (("_train", 0), ("_test", 20)):
        queries = [{"query_id": f"q{item}", "query": f"find thing {item // 2}"} for item in range(first, first + 10)]
        write(folder / f"queries{ending}.csv", queries)
        qrels = [{"query_id": f"q{item}", "item_id": f"id-{item}", "relevance": 1} for item in range(first, first + 10)]
        write(folder / f"qrels{ending}.csv", qrels)
    tokenizer = checkpoints.tokenizer()
    checkpoints.model("qwen2", len(tokenizer) + 8, max_position_embeddings=512).save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    printed = run("seal", folder, "--model", tmp_path / "lm", "--learn", "--validation", 3, "--methods", "bm25",
        "--set", "epochs=1", "--set", "rank=2", "--set", "length=3", "--set", "width=3", "--json", figures)  # fmt: skip
    found = json.loads(figures.read_text())
    assert found["training"]["pairs"] == {"judged": 6} and found["queries"] == 10 and found["items"] == ITEMS
    names = {"BM25", "SEAL, intersective", "SEAL, best n-gram (LM+FM)", "BM25 + SEAL"}
    assert set(found["methods"]) == names and all(name in printed for name in names)
    assert found["calls of the model a query"] > 1
