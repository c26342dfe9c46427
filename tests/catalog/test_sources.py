"""Files of the wild: separators, encodings, archives, folders and patterns give the items that are in them."""

from __future__ import annotations

import io
import json
import zipfile

import polars as pl
import pytest

from genrail.catalog import Catalog, Interactions
from genrail.errors import CatalogError

CSV = "sku,name,price\na,Red boot,12\nb,Wool hat,9\n"


def ids_and_prices(path, **options):
    shop = Catalog.read(path, **options)
    return shop.item_ids, shop.frame["price"].to_list()


EXPECTED = (["a", "b"], [12, 9])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("comma.csv", CSV),
        ("semicolon.csv", 'sku;name;price;"Note, long"\na;Red, boot;12;x,y\nb;Wool, hat;9;z\n'),
        ("tab.csv", CSV.replace(",", "\t")),
        ("bar.txt", CSV.replace(",", "|")),
        ("feed.txt", CSV.replace(",", "\t")),
        ("excel.csv", "sep=;\r\n" + CSV.replace(",", ";").replace("\n", "\r\n")),
        ("blanks.csv", CSV.replace(",", ", ")),
        ("quoted.csv", 'sku, name, price\na, "Red, boot", 12\nb, "Wool ""hat""", 9\n'),
        ("array.json", json.dumps([{"sku": "a", "name": "A", "price": 12}, {"sku": "b", "name": "B", "price": 9}])),
        (
            "pretty.json",
            json.dumps([{"sku": "a", "name": "A", "price": 12}, {"sku": "b", "name": "B", "price": 9}], indent=2),
        ),
    ],
)
def test_layouts_are_told_by_the_file(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    assert ids_and_prices(tmp_path / name) == EXPECTED


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings_are_told_by_the_first_bytes(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes(CSV.encode(encoding))
    (tmp_path / "a.jsonl").write_bytes(b'{"sku":"a","name":"A","price":12}\n{"sku":"b","name":"B","price":9}\n')
    assert ids_and_prices(tmp_path / "a.csv") == EXPECTED
    assert ids_and_prices(tmp_path / "a.jsonl") == EXPECTED


def test_an_encoding_can_be_said_and_a_wrong_one_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_bytes('{"sku":"a","name":"M\xfctze"}\n'.encode("cp1252"))
    assert Catalog.read(tmp_path / "a.jsonl", encoding="cp1252").titles == ["Mütze"]
    with pytest.raises(CatalogError, match="line 1 is not UTF-8.*encoding="):
        Catalog.read(tmp_path / "a.jsonl")
    for wrong in ("no-such-code", "rot13"):
        with pytest.raises(CatalogError, match="encoding="):
            Catalog.read(tmp_path / "a.jsonl", encoding=wrong)


def test_archives_hold_one_table(tmp_path):
    for members, message in (
        ({"shop/a.csv": CSV, "readme.md": "x", "__MACOSX/._a.csv": ""}, None),
        ({"a.csv": CSV, "b.csv": CSV}, "holds a.csv, b.csv"),
        ({"[Content_Types].xml": "", "xl/a.xml": ""}, "workbook of Excel"),
        ({}, "holds nothing"),
    ):
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in members.items():
                archive.writestr(name, text)
        if message is None:
            assert ids_and_prices(tmp_path / "a.zip") == EXPECTED
        else:
            with pytest.raises(CatalogError, match=message):
                Catalog.read(tmp_path / "a.zip")
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:10] + b"PK")
    with pytest.raises(CatalogError):
        Catalog.read(tmp_path / "a.zip")


def test_an_archive_that_unfolds_too_far_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", CSV + "c,x,1\n" * 8_000_000)
    with pytest.raises(CatalogError, match="bomb"):
        Catalog.read(tmp_path / "a.zip")


def test_folders_and_patterns_are_read_file_after_file(tmp_path):
    for kind in ("csv", "parquet"):
        folder = tmp_path / kind
        folder.mkdir()
        for number, (sku, price) in enumerate([("a", 12), ("b", 9)]):
            frame = pl.DataFrame({"sku": [sku], "name": ["boot"], "price": [price]})
            file = folder / f"part-{number}.{kind}"
            frame.write_csv(file) if kind == "csv" else frame.write_parquet(file)
        assert ids_and_prices(folder) == EXPECTED
        assert ids_and_prices(f"{folder}/part-*.{kind}") == EXPECTED
    with (tmp_path / "csv" / "part-1.csv").open("a") as file:
        file.write("c\n")
    report = Catalog.read(tmp_path / "csv").report
    assert report.refused == ((3, "1 value where 3 columns are (row 2 of part-1.csv)"),)
    (tmp_path / "csv" / "x.jsonl").write_text("{}\n")
    with pytest.raises(CatalogError, match="several formats"):
        Catalog.read(tmp_path / "csv")
    with pytest.raises(CatalogError, match="no file matches"):
        Catalog.read(f"{tmp_path}/*.nothing")


@pytest.mark.parametrize("data", [CSV.encode(), b'{"sku":"a","name":"A","price":12}\n{"sku":"b","name":"B","price":9}'])
def test_standard_input_is_read_whatever_it_holds(monkeypatch, data):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert ids_and_prices("-") == EXPECTED


def test_movielens_files_have_no_names(tmp_path):
    (tmp_path / "movies.dat").write_text("1::Toy Story, The (1995)::Animation|Comedy\n2::Heat (1995)::Crime\n")
    (tmp_path / "ratings.dat").write_text("1::1::5::978300760\n1::2::4::978300761\n2::2::1::978300762\n")
    (tmp_path / "u.data").write_text("1\t1\t5\t978300760\n1\t2\t4\t978300761\n")
    movies = Catalog.read(tmp_path / "movies.dat")
    assert movies.titles == ["Toy Story, The (1995)", "Heat (1995)"]
    assert movies.where("genres HAS 'Comedy'").tolist() == [True, False]
    assert "names no columns" in movies.report.warnings[0]
    for name in ("ratings.dat", "u.data"):
        found = Interactions.read(tmp_path / name).account(movies)
        assert found.indexed == 2


def test_the_id_column_is_the_one_without_gaps(tmp_path):
    (tmp_path / "a.csv").write_text("ID,SKU,Name\n10,,Hoodie\n11,W2,Cap\n12,,Belt\n")
    assert Catalog.read(tmp_path / "a.csv").columns.item_id == "ID"
    (tmp_path / "b.csv").write_text("ID,SKU,Name\n10,W1,Hoodie\n11,W2,Cap\n")
    assert Catalog.read(tmp_path / "b.csv").columns.item_id == "SKU"
