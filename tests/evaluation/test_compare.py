"""A comparison finds what is there, claims nothing else, and survives a method that does not."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from genrail.errors import GenrailError, QueryError, SettingsError
from genrail.evaluation import Latency, compare, compare_evaluations, paired_test
from genrail.evaluation.recommendation import queries_needed
from tests.evaluation.doubles import SHOP, Crashing, Refusing, Scripted

NUMBER = 60
QUERIES = {f"q{number}": f"words {number}" for number in range(NUMBER)}
QRELS = {f"q{number}": {f"i{number % 20}": 1} for number in range(NUMBER)}


def method(name, ranks, seconds=0.0):
    """Put the relevant item at the given rank for each query (0: nowhere), others around it."""
    answers = {}
    for number, rank in enumerate(ranks):
        others = [f"i{item}" for item in range(20) if item != number % 20]
        answers[f"words {number}"] = (
            others if rank == 0 else [*others[: rank - 1], f"i{number % 20}", *others[rank - 1 :]]
        )
    return Scripted(answers, name=name, seconds=seconds)


def run(*methods, **options):
    return compare(list(methods), QUERIES, QRELS, **{"k": 10, "metrics": ["R@5"], "latency_queries": 5, **options})


def timed(found, *milliseconds):
    """Say how long each method takes, whatever the clock of a busy machine says."""
    evaluations = {
        name: replace(one, latency=Latency(each, each, each, 5))
        for (name, one), each in zip(found.evaluations.items(), milliseconds, strict=True)
    }
    return compare_evaluations(evaluations, found.queries, found.qrels)


GOOD, POOR = [1] * NUMBER, [8] * NUMBER
MIXED = np.random.default_rng(0).integers(1, 10, size=NUMBER).tolist()
MIXED_TOO = np.random.default_rng(1).integers(1, 10, size=NUMBER).tolist()


def test_a_clear_winner():
    found = run(method("good", GOOD), method("poor", POOR))
    assert (found.best, found.against_best["poor"].verdict) == ("good", "worse")
    assert found.recommendation.startswith("good has the highest nDCG@10 (1.0000 on 60 queries)")


def test_a_method_compared_with_itself_is_never_better():
    found = run(method("same", MIXED), method("same", MIXED))
    assert set(found.evaluations) == {"same", "same (2)"}
    (test,) = found.against_best.values()
    assert test.verdict == "no difference shown"
    assert "no difference shown" in found.recommendation


def test_the_cheaper_of_two_that_do_not_differ_is_recommended():
    found = timed(run(method("slow", MIXED), method("quick", [*MIXED[:-1], 10])), 20.0, 0.1)
    assert (found.best, found.cheapest) == ("slow", "quick")
    assert "no difference shown" in found.recommendation
    assert re.search(r"quick is [\d.]+ x quicker .*: use quick", found.recommendation)


def test_a_slow_winner_is_recommended_with_its_price():
    found = timed(run(method("slow", GOOD), method("quick", POOR)), 20.0, 0.1)
    assert re.search(r"quick is [\d.]+ x quicker .* but loses 0\.68.*use slow if that matters", found.recommendation)


def few(queries, *methods):
    asked = {query_id: QUERIES[query_id] for query_id in list(QUERIES)[:queries]}
    return compare(list(methods), asked, QRELS, k=10, metrics=["R@5"], latency_queries=3)


@pytest.mark.parametrize("queries", [1, 2, 3, 5])
def test_few_queries_never_recommend_what_has_a_fraction_of_the_best_figure(queries):
    """No difference can be shown with so few; that is no reason to take the quick one."""
    found = timed(few(queries, method("slow", GOOD), method("quick", [0] * NUMBER)), 20.0, 0.1)
    assert found.against_best["quick"].verdict == "no difference shown"
    assert "undecided whether quick is worse" in found.recommendation
    assert found.recommendation.endswith("use slow.")


def test_two_queries_decide_nothing_even_where_all_answers_are_alike():
    found = timed(few(2, method("slow", GOOD), method("quick", [*GOOD])), 20.0, 0.1)
    assert "undecided whether slow, with the same figure, is worse" in found.recommendation


def test_undecided_says_how_many_queries_would_do_and_these_do():
    ranks = np.random.default_rng(3).integers(1, 4, size=(2, 12))
    first, second = method("first", ranks[0].tolist()), method("second", ranks[1].tolist())
    found = few(12, first, second)
    (other,) = found.against_best
    needed = queries_needed(found, other)
    assert f"about {needed}" in found.recommendation and "undecided" in found.recommendation
    values = {name: one.measured.values["nDCG@10"] for name, one in found.evaluations.items()}
    more = np.resize(np.arange(12), needed)
    assert paired_test(values[found.best][more], values[other][more]).verdict == "better"


def test_between_equal_methods_of_one_cost_bm25_is_best():
    names = ("TF-IDF", "BM25 (k1=0.9, b=0.4)", "engine")
    found = timed(run(*[method(name, MIXED) for name in names]), 0.1, 0.2, 0.3)
    assert found.best == "BM25 (k1=0.9, b=0.4)"
    assert found.recommendation.endswith("use BM25 (k1=0.9, b=0.4).")


def test_a_better_method_of_the_same_cost_is_never_passed_over():
    """Two are quicker than the best and not shown to be worse: the better one is used, quicker by a hair or not."""
    nearly, less = [*MIXED[:-1], 10], [*MIXED[:-2], 10, 10]
    found = timed(run(method("slow", MIXED), method("TF-IDF", less), method("BM25", nearly)), 20.0, 0.1, 0.6)
    assert re.search(r"BM25 is [\d.]+ x quicker .*: use BM25,", found.recommendation)


def test_a_method_that_is_a_lane_is_named_as_one():
    found = timed(run(method("genrail", POOR), method("BM25", GOOD)), 20.0, 0.6)
    told = replace(found, lanes={"BM25": ("genrail", "bm25")})
    assert 'use BM25, the lane "bm25" of genrail' in told.recommendation
    assert told.to_dict()["lanes"] == {"BM25": "bm25"}


@pytest.mark.parametrize(
    "methods",
    [
        [method("a", GOOD)],
        [method("a", GOOD), method("b", POOR)],
        [method("a", MIXED), method("b", MIXED_TOO), method("c", POOR)],
    ],
    ids=["alone", "two", "a draw"],
)
@pytest.mark.parametrize("milliseconds", [(0.1, 5.0, 5.0), (5.0, 0.1, 0.1), (1.0, 1.1, 1.2)])
def test_recommendations_are_two_sentences(methods, milliseconds):
    found = timed(run(*methods), *milliseconds[: len(methods)])
    sentences = re.split(r"(?<=[a-z)])\.\s+|\.$", found.recommendation)
    assert len([sentence for sentence in sentences if sentence]) == 2


def test_a_crashing_method_is_reported_and_the_others_go_on():
    found = run(Crashing(), method("good", GOOD))
    assert found.failures == {"crashing": "ZeroDivisionError: deep inside"}
    assert list(found.evaluations) == ["good"]
    assert "Failed: crashing: ZeroDivisionError: deep inside" in found.table()
    assert found.to_dict()["failures"] == dict(found.failures)


def test_all_crashing_is_an_error():
    with pytest.raises(GenrailError, match="every method failed: crashing: ZeroDivisionError"):
        run(Crashing())


def test_one_query_that_all_methods_refuse_counts_zero_for_all():
    refusing = [Refusing(method(name, GOOD).answers, {"words 0"}, name=name) for name in ("a", "b")]
    found = run(*refusing)
    for evaluation in found.evaluations.values():
        assert evaluation.measured.by_query("nDCG@10")["q0"] == 0.0
        assert evaluation.counts.failed == 1


def test_one_query_shows_no_difference():
    found = compare([method("a", GOOD), method("b", POOR)], {"q0": "words 0"}, QRELS, k=10, metrics=["R@5"])
    assert found.against_best["b"].verdict == "no difference shown"
    assert "too few" in found.recommendation


@pytest.mark.parametrize("options", [{"metric": "nDCG"}, {"metric": "nDCG@20"}, {"metrics": ["R@50"]}, {"metrics": []}])
def test_wrong_settings_are_the_callers_not_a_crash_of_the_methods(options):
    with pytest.raises(SettingsError, match="cutoff|k=10|no metrics"):
        run(method("a", GOOD), **options)


def test_nothing_to_compare_and_ids_given_twice():
    with pytest.raises(SettingsError, match="nothing to compare"):
        compare([], QUERIES, QRELS)
    with pytest.raises(QueryError, match="twice"):
        compare([method("a", GOOD)], [("q", "a"), ("q", "b")], QRELS)


def test_several_comparisons_are_corrected():
    methods = [
        method(f"m{number}", np.random.default_rng(number).integers(1, 10, NUMBER).tolist()) for number in range(5)
    ]
    found = run(*methods)
    assert all(test.adjusted_p >= test.p for test in found.against_best.values())
    assert any(test.adjusted_p > test.p for test in found.against_best.values())


def test_overlap_of_answers():
    found = run(method("a", GOOD), method("b", GOOD))
    assert found.overlap()["a"]["b"] == 1.0


def test_wins_and_losses_name_the_queries():
    found = run(method("a", [1, 1, *[2] * 58]), method("b", [9, 2, *[2] * 56, 1, 1]))
    assert found.changes("a", "b") == (["q0", "q1"], ["q59", "q58"])


def test_traps_and_choices_stand_in_every_form(tmp_path):
    found = replace(run(method("a", GOOD)), traps=("3 events <repeat> others",), choices=("Chosen on q7.",))
    assert "Trap: 3 events <repeat> others." in found.table() and "Trap: 3 events" in found.to_markdown()
    assert "Chosen on q7." in found.to_markdown()
    assert (found.to_dict()["traps"], found.to_dict()["choices"]) == (list(found.traps), list(found.choices))
    found.write_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Traps in this data" in page and "3 events &lt;repeat&gt; others" in page and "Chosen on q7." in page


def test_table_markdown_and_json(tmp_path):
    found = run(method("a|b", GOOD), method("poor", POOR))
    assert "a\\|b" in found.to_markdown()
    assert found.table().splitlines()[2].startswith("a|b")
    found.write_json(tmp_path / "comparison.json")
    values = json.loads((tmp_path / "comparison.json").read_text())
    assert values["best"] == "a|b"
    assert values["methods"]["poor"]["interval"]["low"] <= values["methods"]["poor"]["metrics"]["nDCG@10"]


def test_progress_names_the_method():
    calls = []
    run(method("a", GOOD), progress=lambda *call: calls.append(call))
    assert calls[-1] == ("a", NUMBER, NUMBER)


HOSTILE = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    shop = SHOP.add([{"id": "bad", "title": HOSTILE}])
    queries = {**QUERIES, "q0": HOSTILE}
    first, second = method("first", MIXED), method(f"second {HOSTILE}", MIXED_TOO)
    for retriever in (first, second):
        retriever.answers[HOSTILE] = ["bad", "i0"]
    second.answers[HOSTILE] = ["i0", "bad"]
    path = tmp_path_factory.mktemp("report") / "report.html"
    found = compare([first, second, Crashing()], queries, QRELS, catalog=shop, latency_queries=3)
    found.write_html(path)
    return path.read_text()


def test_the_report_loads_nothing(page):
    assert not re.search(r"(?:src|href|url)\s*[=(]|https?:|@import|<script", page)


def test_the_report_escapes_what_others_wrote(page):
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page


def test_the_report_holds_its_parts(page):
    assert page.count("<svg") == page.count("</svg>") == 3
    for part in ("Which method to use", "Largest wins", "Largest losses", "Quality against time", "crashing failed"):
        assert part in page


def test_the_report_is_well_formed(page):
    from html.parser import HTMLParser

    void, stack = {"meta", "br"}, []

    class Balance(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in void:
                stack.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert stack.pop() == tag

    Balance().feed(page)
    assert stack == []


@pytest.mark.parametrize(
    "methods", [[method("only", GOOD)], [method("zero", [0] * NUMBER), method("nothing", [0] * NUMBER)]]
)
def test_reports_at_the_edges(methods, tmp_path):
    run(*methods).write_html(tmp_path / "report.html")
    assert "nan" not in (tmp_path / "report.html").read_text().lower().replace("alexand", "")
