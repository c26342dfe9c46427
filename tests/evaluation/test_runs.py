"""Runs and judgements keep their order and their values through every file."""

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrail.errors import QueryError
from genrail.evaluation import Qrels, Run, measure
from genrail.evaluation.runs import tie_free
from genrail.types import Hit, Ranking

scores = st.floats(allow_nan=False, allow_infinity=False, width=64)


@given(st.lists(scores, max_size=60))
def test_tie_free_scores_fall_strictly_in_float32_and_are_finite(values):
    out = tie_free(sorted(values, reverse=True))
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert (np.diff(out.astype(np.float64)) < 0).all()


@pytest.mark.parametrize(
    "values",
    [[0.0] * 1000, [-12.0, -12.0 - 1e-8, -12.0 - 2e-8], [1e300, 1e300, -1e300, -1e300], [1e-45, 1e-45, 0.0, -0.0], []],
    ids=["a thousand zeros", "differences of 1e-8", "beyond float32", "denormals", "nothing"],
)
def test_tie_free_edges(values):
    out = tie_free(values)
    assert len(set(out.tolist())) == len(values)
    assert np.isfinite(out).all()


def test_scores_without_ties_are_left_alone():
    assert tie_free([3.5, 2.25, -1.0]).tolist() == [3.5, 2.25, -1.0]


def test_the_tie_trap():
    """With ties, ir_measures' two back-ends read two orders in one table; ours leave one reading."""
    ours = {"q": {"a": 1.0, "b": 1.0}}
    qrels = {"q": {"a": 1}}
    metrics = [ir_measures.parse_measure(name) for name in ("RR@10", "nDCG@10")]
    naive = ir_measures.calc_aggregate(metrics, qrels, ours)
    assert {str(metric): round(value, 2) for metric, value in naive.items()} == {"RR@10": 1.0, "nDCG@10": 0.63}
    assert measure(Run(ours), Qrels(qrels), ["RR@10", "nDCG@10"]).means == {"RR@10": 1.0, "nDCG@10": 1.0}


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 29))
def test_the_order_survives_trec_eval(values, target):
    """Whatever ties there are, the item at place r has reciprocal rank 1 / r in every back-end."""
    order = sorted(range(len(values)), key=lambda item: -values[item])
    run = Run({"q": {f"d{item}": float(values[item]) for item in range(len(values))}})
    target %= len(values)
    rank = order.index(target) + 1
    found = ir_measures.calc_aggregate(
        [ir_measures.parse_measure(name) for name in ("RR", "RR@100", "AP@100")], {"q": {f"d{target}": 1}}, run.scores()
    )
    assert list(found.values()) == pytest.approx([1 / rank] * 3)


def test_answers_keep_the_order_of_the_hits_and_drop_repeats():
    ranking = Ranking((Hit("b", "B", 1.0, 1), Hit("a", "A", 1.0, 2), Hit("b", "B", 0.5, 3), Hit("c", "C", 0.2, 4)))
    run = Run.from_rankings({"q": ranking}, name="method")
    assert list(run["q"]) == ["b", "a", "c"]
    assert list(Run(run)["q"]) == ["b", "a", "c"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_cannot_be_ranked_are_refused(bad):
    with pytest.raises(QueryError, match="'a'"):
        Run({"q": {"a": bad}})


ids = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=8)
runs = st.dictionaries(ids, st.dictionaries(ids, st.integers(0, 3).map(float), max_size=6), min_size=1, max_size=4)


@given(runs, st.sampled_from(["run.trec", "run.trec.gz", "run.json", "run.json.gz"]))
def test_a_run_comes_back_from_its_file_in_the_same_order(tmp_path_factory, rankings, name):
    path = tmp_path_factory.mktemp("runs") / name
    run = Run(rankings, name="two words")
    run.write(path)
    back = Run.read(path)
    answered = {query_id: list(hits) for query_id, hits in run.items() if hits or "json" in name}
    assert {query_id: list(hits) for query_id, hits in back.items()} == answered
    assert back.scores() == {query_id: run.scores()[query_id] for query_id in answered}


def test_trec_lines_have_six_words_and_the_tag(tmp_path):
    Run({"q1": {"a": 2.0, "b": 1.0}}, name="my engine").write(tmp_path / "run.trec")
    assert (tmp_path / "run.trec").read_text() == "q1 Q0 a 1 2 my-engine\nq1 Q0 b 2 1 my-engine\n"


def test_the_rank_column_decides_between_equal_scores(tmp_path):
    (tmp_path / "run.trec").write_text("q Q0 late 2 0.5 x\nq Q0 early 1 0.5 x\n")
    assert list(Run.read(tmp_path / "run.trec")["q"]) == ["early", "late"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q Q0 a 1 0.5\n", "line 1.*5 words"),
        ("q Q0 a 1 high x\n", "line 1.*'high'"),
        ("q Q0 a 1 nan x\n", "'a'.*nan"),
        ("q Q0 a 1 0.5 x\nq Q0 a 2 0.4 x\n", "twice"),
    ],
    ids=["a word missing", "a word for a score", "NaN", "an item twice"],
)
def test_bad_run_files_are_refused(tmp_path, text, message):
    (tmp_path / "run.trec").write_text(text)
    with pytest.raises(QueryError, match=message):
        Run.read(tmp_path / "run.trec")


def test_an_id_with_a_space_leaves_no_half_file(tmp_path):
    with pytest.raises(QueryError, match="two words"):
        Run({"q": {"fine": 1.0, "two words": 0.5}}).write(tmp_path / "run.trec")
    assert list(tmp_path.iterdir()) == []
    Run({"q": {"fine": 1.0, "two words": 0.5}}).write(tmp_path / "run.json")
    assert list(Run.read(tmp_path / "run.json")["q"]) == ["fine", "two words"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(QueryError, match="absent.trec does not exist"):
        Run.read(tmp_path / "absent.trec")


@pytest.mark.parametrize("name", ["q.trec", "q.trec.gz", "q.json", "q.json.gz"])
def test_judgements_come_back_from_their_file(tmp_path, name):
    qrels = Qrels({"q1": {"a": 2, "b": 0, "spam": -1}, "q2": {"c": 1}})
    qrels.write(tmp_path / name)
    assert Qrels.read(tmp_path / name) == qrels


def test_fractions_need_json(tmp_path):
    qrels = Qrels({"q": {"a": 1, "b": 0.1}})
    with pytest.raises(QueryError, match=r"0\.1 is not whole.*qrels\.json"):
        qrels.write(tmp_path / "qrels.trec")
    assert list(tmp_path.iterdir()) == []
    qrels.write(tmp_path / "qrels.json")
    assert Qrels.read(tmp_path / "qrels.json") == qrels


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("qrels.csv", "query_id,doc_id,relevance\nq,a,2\n"),
        ("test.tsv", "query-id\tcorpus-id\tscore\nq\ta\t2\n"),
        ("qrels.txt", "q 0 a 2\n\n"),
    ],
    ids=["csv", "BEIR", "TREC"],
)
def test_judgements_are_read_from_other_formats(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert Qrels.read(tmp_path / name) == {"q": {"a": 2}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q 0 a E\n", "line 1.*'E'"),
        ("q 0 a nan\n", "line 1.*'nan'"),
        ("q 0 a 1\nq 0 a 2\n", "line 2.*two grades"),
        ("q 0 a\n", "line 1.*3 words"),
    ],
    ids=["a word", "NaN", "two grades", "a word missing"],
)
def test_bad_judgements_are_refused(tmp_path, text, message):
    (tmp_path / "qrels.trec").write_text(text)
    with pytest.raises(QueryError, match=message):
        Qrels.read(tmp_path / "qrels.trec")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["q"]', "object with query ids"),
        ('{"q": {"a": 1}, "q": {"b": 1}}', "'q' was given twice"),
        ("{", "is not JSON"),
        ('{"q": {"a": "high"}}', "'high'"),
    ],
)
def test_bad_json_is_refused(tmp_path, text, message):
    (tmp_path / "qrels.json").write_text(text)
    with pytest.raises(QueryError, match=message):
        Qrels.read(tmp_path / "qrels.json")


def test_a_judgement_given_twice_alike_is_one(tmp_path):
    (tmp_path / "qrels.trec").write_text("q 0 a 1\nq 0 a 1\n")
    assert Qrels.read(tmp_path / "qrels.trec") == {"q": {"a": 1}}
