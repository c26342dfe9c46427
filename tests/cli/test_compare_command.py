"""`genrail compare` from files to its advice: with enough queries to choose on, and with input people get wrong."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import genrail
from genrail.catalog import read_qrels, read_queries
from genrail.engine.comparing import split_queries
from genrail.errors import QueryError, SettingsError
from genrail.evaluation import Qrels, Run, measure
from genrail.evaluation.evaluations import as_queries
from tests.cli.test_commands import good, products, run, write_csv
from tests.shops import COLOURS, KINDS

PHRASES = ("{colour} {kind}", "a {kind} in {colour}", "{colour}, some {kind} please")


def judged_queries():
    """Ask for each colour of each kind in three ways; two items are right, one of them less."""
    queries, qrels = [], []
    for place in range(20):
        for way, phrase in enumerate(PHRASES):
            query_id = f"q{place}-{way}"
            words = phrase.format(colour=COLOURS[place % 4], kind=KINDS[place % 5])
            queries.append({"query_id": query_id, "query": words})
            grades = {f"s{place}": 2, f"s{place + 20}": 1, f"s{(place + 1) % 20}": 0, f"s{(place + 2) % 20}": -1}
            qrels += [{"query_id": query_id, "item_id": item, "relevance": grade} for item, grade in grades.items()]
    return queries, qrels


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    write_csv(folder / "products.csv", products())
    events = [
        {"user": f"u{user}", "item": f"s{user + step}", "timestamp": 100 * user + min(step, 3)}
        for user in range(30)
        for step in range(5)
    ]
    write_csv(folder / "events.csv", [*events, events[2]])  # the last two of each user at one moment, and a copy
    queries, qrels = judged_queries()
    write_csv(folder / "queries.csv", queries)
    write_csv(folder / "qrels.csv", qrels)
    write_csv(
        folder / "trained.csv", [{**one, "query": one["query"].upper() + "!"} for one in queries[:: len(PHRASES)]]
    )
    good("build", folder / "products.csv", "--id", "sku", "--title", "name", "--interactions", folder / "events.csv",
         "--encoder", "hashing", "--max-seconds", 2, "--out", folder / "shop.genrail")  # fmt: skip
    return folder


def ids_of_the_test(shop):
    """List the ids of the queries that the figures are of."""
    queries, qrels = read_queries(shop / "queries.csv"), Qrels(read_qrels(shop / "qrels.csv"))
    return list(split_queries(as_queries(queries), qrels)[1])


@pytest.fixture(scope="module")
def compared(shop):
    done = good("compare", shop / "shop.genrail", "--queries", shop / "queries.csv", "--qrels", shop / "qrels.csv",
                "--interactions", shop / "events.csv", "--trained-on", shop / "trained.csv",
                "--report", shop / "report.html", "--markdown", shop / "report.md", "--json")  # fmt: skip
    return json.loads(done.stdout)


def test_a_third_of_the_queries_is_chosen_on_and_the_others_are_the_figures(compared):
    assert compared["choices"][0] == "Settings were chosen on 20 queries, the figures are of the other 40."
    assert compared["queries"] == 40
    assert all(found["queries"] == 40 for found in compared["methods"].values())
    assert re.match(
        r"BM25.* was taken on validation queries: BM25 .*, BM25 \(k1=0\.9, b=0\.4\)", compared["choices"][1]
    )


def test_the_engine_its_lanes_and_every_classical_method_are_there(compared):
    methods = {name.split(" (")[0] for name in compared["methods"]}
    assert {"genrail", "native", "BM25", "Dense", "TF-IDF", "Popularity"} <= methods
    pasts = compared["next item"]
    assert {"genrail", "native", "Dense", "Co-occurrence", "Item-kNN", "TF-IDF", "Popularity"} <= set(pasts["methods"])
    assert compared["failures"] == {} == pasts["failures"]
    assert compared["lanes"]["native"] == "native" and pasts["lanes"]["Co-occurrence"] == "cooccurrence"


def test_the_library_says_what_the_command_says(compared, shop):
    engine = genrail.load(shop / "shop.genrail")
    found = genrail.compare(engine, read_queries(shop / "queries.csv"), read_qrels(shop / "qrels.csv"))
    means = {name: one.means for name, one in found.evaluations.items()}
    means.pop("Popularity", None)
    assert means == {name: one["metrics"] for name, one in compared["methods"].items() if name != "Popularity"}
    assert found.next_item is None


@pytest.mark.parametrize("task", ["search", "next item"])
def test_the_advice_is_two_sentences_whose_figures_are_those_of_the_table(compared, task):
    found = compared if task == "search" else compared["next item"]
    advice, metric = found["recommendation"], found["metric"]
    sentences = [part for part in re.split(r"(?<=[a-z)])\.\s+|\.$", advice) if part]
    assert len(sentences) == 2
    means = {name: method["metrics"][metric] for name, method in found["methods"].items()}
    best = found["best"]
    assert means[best] == max(means.values())
    assert best in advice and f"{means[best]:.4f}" in advice
    named = [name for name in means if re.search(rf"(?:use|otherwise) {re.escape(name)}(?:[.,]| if|$)", advice)]
    assert named, advice
    for name in named:
        if name != best:
            difference = means[name] - means[best]
            assert f"{abs(difference):.4f}" in advice or f"{difference:+.4f}" in advice
    for name, test in found["against_best"].items():
        assert test["difference"]["mean"] == pytest.approx(means[name] - means[best])
        inside = test["difference"]["low"] <= 0 <= test["difference"]["high"]
        assert inside or test["verdict"] in ("better", "worse")


def test_traps_of_the_data_are_told(compared, shop):
    asked = sum(query_id.endswith("-0") for query_id in ids_of_the_test(shop))
    [told] = compared["traps"]
    assert told.startswith(f"{asked} test queries have the words of a query that a method was trained on")
    pasts = " ".join(compared["next item"]["traps"])
    for part in (
        "never occur",
        "share user and time",
        "by the order of the file alone",
        "copies of another",
        "first appearance",
    ):
        assert part in pasts, pasts
    page = (shop / "report-next-item.html").read_text()
    assert "Traps in this data" in page and "copies of another" in page
    assert "Trap: " in (shop / "report-next-item.md").read_text()


def test_all_forms_say_the_same(compared, shop):
    from html import unescape

    for task, values in (("", compared), ("-next-item", compared["next item"])):
        page, text = (shop / f"report{task}.html").read_text(), (shop / f"report{task}.md").read_text()
        assert values["recommendation"] in unescape(page) and values["recommendation"] in text
        for name, found in values["methods"].items():
            figure = f"{found['metrics'][values['metric']]:.4f}"
            assert figure in page and re.search(rf"\| {re.escape(name)} \|.*{figure}", text)
        assert not re.search(r"(?:src|href|url)\s*[=(]|https?:|@import|<script", page)
        for sentence in values["choices"]:
            assert sentence in unescape(page) and sentence in text


def test_the_terminal_shows_table_choices_and_advice(shop):
    output = " ".join(good("compare", shop / "shop.genrail", "--queries", shop / "queries.csv",
                           "--qrels", shop / "qrels.csv").output.split())  # fmt: skip
    assert "BM25" in output and "Settings were chosen on 20 queries" in output and "use " in output


# --- what people get wrong -------------------------------------------------------------------------------------------


def compare_files(shop, tmp_path, queries, qrels):
    write_csv(tmp_path / "queries.csv", [{"query_id": key, "query": words} for key, words in queries])
    rows = [{"query_id": key, "item_id": item, "relevance": grade} for key, item, grade in qrels]
    write_csv(tmp_path / "qrels.csv", rows)
    return run("compare", shop / "shop.genrail", "--queries", tmp_path / "queries.csv",
               "--qrels", tmp_path / "qrels.csv", "--json")  # fmt: skip


def values_of(result):
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    return json.loads(result.stdout)


def notes_of(values):
    return " ".join(note for method in values["methods"].values() for note in method["notes"])


def test_judgements_that_name_unknown_items_are_told(shop, tmp_path):
    qrels = [("q1", "s0", 1), ("q1", "nobody-sells-this", 1)]
    notes = notes_of(values_of(compare_files(shop, tmp_path, [("q1", "red boot")], qrels)))
    assert "1 of 2 relevant items are not in the catalogue: no method can find them" in notes


def test_judgements_of_unknown_items_alone(shop, tmp_path):
    """Every method scores 0, none is preferred, and the reader is told why."""
    values = values_of(compare_files(shop, tmp_path, [("q1", "red boot")], [("q1", "nobody-sells-this", 1)]))
    assert {method["metrics"]["R@100"] for method in values["methods"].values()} == {0.0}
    assert {test["verdict"] for test in values["against_best"].values()} == {"no difference shown"}
    assert "1 of 1 relevant items are not in the catalogue" in notes_of(values)


def test_queries_without_judgements_do_not_count(shop, tmp_path):
    queries = [("q1", "red boot"), ("q2", "clog"), ("q3", "sandal")]
    values = values_of(compare_files(shop, tmp_path, queries, [("q1", "s0", 1)]))
    assert "1 query" in values["recommendation"]
    assert "2 " in notes_of(values) and "judge" in notes_of(values)


def test_a_query_id_twice_is_one_sentence(shop, tmp_path):
    result = compare_files(shop, tmp_path, [("q1", "red boot"), ("q1", "clog")], [("q1", "s0", 1)])
    assert result.exit_code == 2
    assert "repeats the query id 'q1'" in " ".join(result.output.split())


def test_graded_and_negative_labels_are_gains_and_no_gain(shop, tmp_path):
    graded = values_of(compare_files(shop, tmp_path, [("q1", "red boot")], [("q1", "s0", 3), ("q1", "s5", -2)]))
    plain = values_of(compare_files(shop, tmp_path, [("q1", "red boot")], [("q1", "s0", 3), ("q1", "s5", 0)]))
    assert {name: one["metrics"] for name, one in graded["methods"].items()} == {
        name: one["metrics"] for name, one in plain["methods"].items()
    }
    run_of_two = Run({"q": {"a": 2.0, "b": 1.0}})
    low, high = (measure(run_of_two, Qrels({"q": {"a": a, "b": b}}), ["nDCG@10"]).means["nDCG@10"]
                 for a, b in ((1, 3), (3, 1)))  # fmt: skip
    assert low < high == 1.0


def test_one_query_shows_no_difference(shop, tmp_path):
    values = values_of(compare_files(shop, tmp_path, [("q1", "red boot")], [("q1", "s0", 1)]))
    assert {test["verdict"] for test in values["against_best"].values()} == {"no difference shown"}
    assert "too few" in values["recommendation"]


def test_a_query_that_every_method_refuses_counts_zero(shop, tmp_path, monkeypatch):
    from genrail.engine import Engine
    from genrail.finders import BM25, TFIDF, Dense

    def refusing(answer):
        def search_batch(self, queries, k=10, **options):
            if any(query.text == "unanswerable" for query in queries):
                raise QueryError("cannot read 'unanswerable'")
            return answer(self, queries, k, **options)

        return search_batch

    for kind in (BM25, TFIDF, Dense, Engine):
        monkeypatch.setattr(kind, "search_batch", refusing(kind.search_batch))
    queries = [("q1", "red boot"), ("q2", "unanswerable")]
    values = values_of(compare_files(shop, tmp_path, queries, [("q1", "s0", 1), ("q2", "s1", 1)]))
    for method in values["methods"].values():
        assert method["metrics"]["R@100"] <= 0.5
    assert "refused" in notes_of(values) or "cannot read" in notes_of(values)


def test_a_method_that_crashes_is_told_and_the_others_go_on(shop, tmp_path, monkeypatch):
    from genrail.finders import TFIDF

    def crash(*_, **__):
        raise ZeroDivisionError("deep inside")

    monkeypatch.setattr(TFIDF, "find", crash)
    values = values_of(compare_files(shop, tmp_path, [("q1", "red boot")], [("q1", "s0", 1)]))
    assert values["failures"] == {"TF-IDF": "ZeroDivisionError: deep inside"}
    assert {"BM25", "Dense"} <= set(values["methods"]) and "TF-IDF" not in values["methods"]


def test_recommendations_alone_are_compared_without_queries(shop):
    values = json.loads(good("compare", shop / "shop.genrail", "--interactions", shop / "events.csv", "--json").stdout)
    assert values["task"] == "next item" and "Co-occurrence" in values["methods"]


@pytest.mark.parametrize("options", [[], ["--queries"]], ids=["nothing", "queries without judgements"])
def test_nothing_to_compare_on_is_one_sentence(shop, options):
    result = run("compare", shop / "shop.genrail", *options, *([shop / "queries.csv"] if options else []))
    assert result.exit_code == 2
    assert "give --queries and --qrels, or --interactions" in " ".join(result.output.split())


# --- what else can be compared ---------------------------------------------------------------------------------------


class TellsTokens:
    """Encode each word as its letters say, a text as the mean of its words; tells the vectors of words too."""

    name, fingerprint, dimensions = "letters", "letters 1", 16

    def encode_tokens(self, texts, progress=None):
        for text in texts:
            rows = [[word.lower().count(chr(ord("a") + place)) for place in range(16)] for word in text.split()]
            yield np.array(rows, dtype=np.float32).reshape(-1, 16) + 0.01

    def encode(self, texts, progress=None):
        found = [vectors.mean(axis=0) if len(vectors) else np.ones(16) for vectors in self.encode_tokens(texts)]
        return np.array(found, dtype=np.float32).reshape(-1, 16)


QUERIES, QRELS = {"q1": "red boot", "q2": "clog"}, {"q1": {"s0": 1}, "q2": {"s3": 1}}


def test_late_interaction_is_compared_for_a_loaded_engine(tmp_path):
    encoder = TellsTokens()
    genrail.Engine.build(genrail.Catalog.from_items(products()), "dense", encoder=encoder).save(tmp_path / "e")
    found = genrail.compare(genrail.Engine.load(tmp_path / "e", encoder=encoder), QUERIES, QRELS)
    assert {"Dense", "BM25", "TF-IDF", "Late interaction"} <= set(found.evaluations)
    assert found.failures == {}


def test_a_list_is_compared_as_it_is():
    catalog = genrail.Catalog.from_items(products())
    found = genrail.compare([genrail.Engine.build(catalog, "tfidf"), genrail.BM25(catalog)], QUERIES, QRELS)
    assert list(found.evaluations) == ["TF-IDF", "BM25"]
    with pytest.raises(SettingsError, match="give queries and qrels"):
        genrail.compare([genrail.BM25(catalog)])
