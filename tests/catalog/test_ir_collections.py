"""Collections of ir_datasets by their ids; registered from local files, so that nothing is fetched."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import NamedTuple

import pytest

os.environ.setdefault("IR_DATASETS_HOME", tempfile.mkdtemp())  # importing it makes folders there
ir_datasets = pytest.importorskip("ir_datasets", reason='needs the extra: pip install "genrail[ir-datasets]"')

from ir_datasets.formats import BaseDocs
from typer.testing import CliRunner

from genrail.catalog import Catalog, Limits, read_qrels, read_queries
from genrail.cli.main import app
from genrail.errors import CatalogError, MissingPackageError
from tests.shops import COLOURS, KINDS

DOCS = [(f"d{number}", f"{COLOURS[number % 4]} {KINDS[number % 5]}") for number in range(20)]
ID = "irds:genrail-tests/shop"


class Paper(NamedTuple):
    doc_id: str
    title: str
    text: str
    year: int
    authors: tuple[str, ...]


class Papers(BaseDocs):
    def docs_iter(self):
        return iter(
            [Paper("p1", "Boots", "of leather", 1999, ("Fell",)), Paper("p2", " ", "Sandals of cork", 2004, ())]
        )

    def docs_cls(self):
        return Paper


class Gone(BaseDocs):
    def docs_iter(self):
        raise RuntimeError("no network")

    def docs_cls(self):
        return Paper


@pytest.fixture(scope="module", autouse=True)
def collections(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collection")
    (folder / "docs.tsv").write_text("".join(f"{doc}\t{text}\n" for doc, text in DOCS))
    (folder / "queries.tsv").write_text("q1\tred boot\nq2\tblue sandal\n")
    (folder / "qrels").write_text("q1 0 d0 2\nq2 0 d1 1\nq2 0 d2 0\n")
    files = {"docs_tsv": "docs.tsv", "queries_tsv": "queries.tsv", "qrels_trec": "qrels"}
    whole = ir_datasets.create_dataset(**{part: str(folder / name) for part, name in files.items()})
    registered = ir_datasets.registry._registered
    made = {
        "genrail-tests/shop": whole,
        "genrail-tests/papers": ir_datasets.Dataset(Papers()),
        "genrail-tests/gone": ir_datasets.Dataset(Gone()),
    }
    registered.update(made)
    yield
    for name in made:
        del registered[name]


def test_documents_queries_and_judgements_of_one_id():
    catalog = Catalog.read(ID)
    assert catalog.item_ids == [doc for doc, _ in DOCS]
    assert catalog.titles == [text for _, text in DOCS]
    assert read_queries(ID) == {"q1": "red boot", "q2": "blue sandal"}
    assert read_qrels(ID) == {"q1": {"d0": 2.0}, "q2": {"d1": 1.0, "d2": 0.0}}


def test_plain_fields_are_attributes_and_an_empty_title_is_the_text():
    catalog = Catalog.read("irds:genrail-tests/papers")
    assert catalog.titles == ["Boots", "Sandals of cork"]
    assert catalog.where("year < 2000").tolist() == [True, False]
    assert "authors" not in catalog.attribute_names


@pytest.mark.parametrize(
    ("read", "name", "says"),
    [
        (Catalog.read, "irds:genrail-tests/shoop", 'did you mean "genrail-tests/shop"'),
        (read_qrels, "irds:genrail-tests/papers", "has no qrels, only docs"),
        (Catalog.read, "irds:genrail-tests/gone", "cannot read its docs .no network"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(read, name, says):
    with pytest.raises(CatalogError, match=says):
        read(name)


def test_a_limit_on_rows_holds():
    with pytest.raises(CatalogError, match="more than 19 docs"):
        Catalog.read(ID, limits=Limits(rows=19))


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(MissingPackageError, match=r"genrail\[ir-datasets\]"):
        Catalog.read(ID)


def test_commands_take_an_id_for_each_of_their_files(tmp_path):
    def good(*words):
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
        return result.stdout

    engine = tmp_path / "shop.genrail"
    good("build", ID, "--encoder", "hashing", "--max-seconds", 0.5, "--out", engine)
    judged = ["--queries", ID, "--qrels", ID, "--json"]
    assert json.loads(good("evaluate", engine, *judged))["search"][0]["queries"] == 2
    assert "BM25" in json.loads(good("compare", engine, *judged))["methods"]
