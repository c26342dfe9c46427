"""Queries and judgements from the formats that people have."""

from __future__ import annotations

import pytest

from genrail.catalog import read_qrels, read_queries
from genrail.errors import CatalogError


def test_queries_of_every_format(tmp_path):
    files = {
        "a.csv": "query_id,query\nq1,red boots\nq2,socks\n",
        "b.tsv": "qid\ttext\nq1\tred boots\nq2\tsocks\n",
        "c.jsonl": '{"_id": "q1", "text": "red boots"}\n{"_id": "q2", "text": "socks", "metadata": {}}\n',
        "queries.jsonl": '{"_id": "q1", "text": "red boots"}\n{"_id": "q2", "text": "socks"}\n',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        assert read_queries(tmp_path / name) == {"q1": "red boots", "q2": "socks"}, name
    assert read_queries(tmp_path) == {"q1": "red boots", "q2": "socks"}


def test_qrels_of_every_format(tmp_path):
    (tmp_path / "qrels").mkdir()
    files = {
        "a.csv": "query_id,doc_id,relevance\nq1,d1,1\nq1,d2,0\n",
        "b.csv": "query_id,product_id,label\nq1,d1,1\nq1,d2,0.0\n",
        "c.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\n",
        "d.qrels": "q1 0 d1 1\n\nq1 0 d2 0\n",
        "qrels/test.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        assert read_qrels(tmp_path / name) == {"q1": {"d1": 1.0, "d2": 0.0}}, name
    assert read_qrels(tmp_path) == {"q1": {"d1": 1.0, "d2": 0.0}}
    assert read_qrels(tmp_path / "d.qrels", format="trec") == {"q1": {"d1": 1.0, "d2": 0.0}}
    with pytest.raises(CatalogError, match="no dev.tsv"):
        read_qrels(tmp_path, split="dev")


def test_esci_labels_and_pairs_without_label(tmp_path):
    (tmp_path / "a.csv").write_text("query_id,product_id,esci_label\nq,a,E\nq,b,s\nq,c,Complement\nq,d,I\n")
    assert read_qrels(tmp_path / "a.csv") == {"q": {"a": 1.0, "b": 0.1, "c": 0.01, "d": 0.0}}
    (tmp_path / "b.csv").write_text("query_id,item_id\nq,a\n")
    assert read_qrels(tmp_path / "b.csv") == {"q": {"a": 1.0}}


@pytest.mark.parametrize(
    ("reader", "text", "message"),
    [
        (read_queries, "query_id,query\n", "no rows"),
        (read_queries, "query_id,query\nq1,x\nq1,y\n", "row 2 repeats the query id 'q1'"),
        (read_queries, "query_id,query\nq1,\n", "row 1 has no query words"),
        (read_queries, "query_id,query\n,x\n", "row 1 has no query id"),
        (read_queries, "query_id,query\nq1,x,y\n", "row 1 has 3 values"),
        (read_queries, "a,b\n1,2\n", "looks like the query id.*a, b"),
        (read_qrels, "query_id,doc_id,relevance\nq,d,maybe\n", "row 1 has the label 'maybe'"),
        (read_qrels, "query_id,doc_id,relevance\nq,d,nan\n", "label 'nan'"),
        (read_qrels, "query_id,doc_id,relevance\nq,d,1\nq,d,0\n", "row 2 judges query 'q', item 'd' a second time"),
        (read_qrels, "query_id,doc_id,relevance\nq,,1\n", "row 1 lacks"),
        (read_qrels, "query_id,relevance\nq,1\n", "looks like the item id"),
    ],
)
def test_bad_files_are_named(tmp_path, reader, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(CatalogError, match=message):
        reader(tmp_path / "a.csv")


def test_bad_trec_and_missing_files(tmp_path):
    (tmp_path / "a.qrels").write_text("q1 0 d1 1\nq1 d2 1\n")
    with pytest.raises(CatalogError, match="line 2 has 3 fields"):
        read_qrels(tmp_path / "a.qrels")
    for name in ("none.qrels", "none.csv"):
        with pytest.raises(CatalogError, match="no such file"):
            read_qrels(tmp_path / name)
    with pytest.raises(CatalogError, match="queries.jsonl"):
        read_queries(tmp_path)
