"""Files become tables: every format gives the same items, every damaged file an error that says what to do."""

from __future__ import annotations

import gzip
import json

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from genrail.catalog import Catalog, Limits
from genrail.catalog.parquet_files import _repetitive
from genrail.catalog.readers import read_table
from genrail.errors import CatalogError

ROWS = [
    {"sku": "a-1", "name": "Trail boot", "brand": "Fernhill", "price": 89.5, "in_stock": True},
    {"sku": "a-2", "name": 'Sandal, "light"\nand airy', "brand": None, "price": 25.0, "in_stock": False},
    {"sku": "007", "name": "Café clog", "brand": "Otterby", "price": None, "in_stock": None},
]


def csv_bytes(delimiter=","):
    def cell(value):
        if value is None:
            return ""
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in '",;\t\n') else text

    lines = [delimiter.join(ROWS[0])] + [delimiter.join(cell(value) for value in row.values()) for row in ROWS]
    return ("\n".join(lines) + "\n").encode()


def write_all(folder):
    jsonl = "\n".join(json.dumps(row) for row in ROWS).encode()
    files = {
        "p.csv": csv_bytes(),
        "p.csv.gz": gzip.compress(csv_bytes()),
        "p.csv.zst": pa.compress(csv_bytes(), codec="zstd", asbytes=True),
        "semicolon.csv": csv_bytes(";"),
        "p.tsv": csv_bytes("\t"),
        "p.jsonl": jsonl,
        "p.jsonl.gz": gzip.compress(jsonl),
        "bom.csv": b"\xef\xbb\xbf" + csv_bytes(),
        "bom.jsonl": b"\xef\xbb\xbf" + jsonl,
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    pl.DataFrame(ROWS).write_parquet(folder / "p.parquet")
    return [*files, "p.parquet"]


def test_every_format_gives_the_same_items(tmp_path):
    for name in write_all(tmp_path):
        catalog = Catalog.read(tmp_path / name)
        assert catalog.item_ids == ["a-1", "a-2", "007"], name
        assert catalog.titles == ["Trail boot", 'Sandal, "light" and airy', "Café clog"], name
        assert catalog.frame["price"].to_list() == [89.5, 25.0, None], name
        assert catalog.frame["in_stock"].to_list() == [True, False, None], name
        assert catalog.columns.text == ("brand",), name
        assert catalog.where("price < 50 OR in_stock").tolist() == [True, True, False], name


def test_beir_folder_and_recbole_files(tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d1", "title": "Zebras", "text": "Stripes.", "metadata": {}}\n')
    beir = Catalog.read(tmp_path)
    assert (beir.item_ids, beir.texts()) == (["d1"], ["Zebras. Stripes."])
    (tmp_path / "ml.item").write_text('item_id:token\tmovie_title:token_seq\tyear:float\n1\tToy "Story\t1995\n')
    movies = Catalog.read(tmp_path / "ml.item")
    assert (movies.item_ids, movies.titles, movies.attributes(0)) == (["1"], ['Toy "Story'], {"year": 1995})


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b" \n\n", "is empty"),
        ("a.csv", b"id,title\n", "no rows"),
        ("a.jsonl", b"", "is empty"),
        ("a.csv", b"idd,titel\n1,x\n", r'perhaps "idd".*the columns are: idd, titel'),
        ("a.csv", b"id,words\n1,x\n", "no column looks like the title.*title=.*are: words"),
        ("a.csv", b"id,title\n1,x\n,y\n  ,z\n", r'2 rows have no item id in column "id" \(rows 2, 3\)'),
        ("a.csv", b"id,title\n1,x\n2,y\n1,z\n", r"duplicate item ids \('1' in rows 1, 3\)"),
        ("a.csv", b"id,id,title\n1,2,x\n", 'column "id" more than once'),
        ("a.csv", b'id,title\n1,x\n2,"y\n3,z\n', r"opened in row 2 is never closed"),
        ("a.csv", b'id,title\n1,x\n2,"y\n' + b"3,zzzzzzz\n" * 600_000, "never closed"),
        ("a.csv", "id,title\n1,x\n2,caf\xe9\n".encode("latin-1"), "line 3 is not UTF-8.*encoding="),
        ("a.csv", b"id,title\n1,x\n\xff\n", "line 3 is not UTF-8"),
        ("a.csv.gz", gzip.compress(b"id,title\n1,x\n2,\xc3\n", mtime=0), "line 3 is not UTF-8"),
        ("a.csv", b"id,title" + b"".join(b",c%d" % n for n in range(10**6)) + b"\n1,x\n", "more than 2,000 columns"),
        ("a.csv", b"id\n1\n2,3\n", "title"),
        ("a.csv.gz", gzip.compress(csv_bytes(), mtime=0)[:60], "damaged or cut off"),
        ("a.jsonl", b'{"id": 1, "title": "x"}\n{"id": 2,\n', "line 2 is not a JSON object"),
        ("a.jsonl", b"[1, 2]\n", "line 1 holds a list"),
        ("a.jsonl", b'{"id": 1, "title": "\xff"}\n', "line 1 is not UTF-8"),
        ("a.jsonl", b'{"id": 1, "title": ' + b"[" * 100_000 + b"\n", "not a JSON object"),
        ("a.jsonl", b'{"id": 1, "title": ' + b"[" * 900 + b"]" * 900 + b"}\n", "nested too deeply"),
        ("a.jsonl", b'{"id": 1.5, "title": "x"}\n', "decimal numbers"),
        ("a.parquet", b"PAR1 and then nothing", "cannot be read as Parquet"),
        ("a.parquet", b"", "cannot be read as Parquet"),
        ("a.xyz", b"id,title\n1,x\n", "does not tell the format"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CatalogError, match=rf"(?s){name.split('.')[0]}.*{message}|{message}"):
        Catalog.read(tmp_path / name)


def test_no_file_no_format_no_folder(tmp_path):
    with pytest.raises(CatalogError, match="no such file"):
        Catalog.read(tmp_path / "missing.csv")
    with pytest.raises(CatalogError, match="format="):
        Catalog.read(tmp_path, format="xml")
    with pytest.raises(CatalogError, match="without corpus.jsonl"):
        Catalog.read(tmp_path)
    with pytest.raises(CatalogError, match="is a folder"):
        Catalog.read(tmp_path, format="csv")


def test_ragged_rows_are_refused_by_row_and_the_account_adds_up(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"id,title\n\n1,x\n2\n\n3,y,z\n4,w\n5,\n")
    report = Catalog.read(tmp_path / "a.csv").report
    assert (report.rows_in, report.indexed, len(report.refused)) == (5, 2, 3)
    assert [row for row, _ in report.refused] == [2, 3, 5]
    assert "1 value where 2 columns are" in report.refused[0][1]
    assert "no words" in report.refused[2][1]


def test_mixed_newlines_nul_and_escape(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"id,title\r\n1,x\n2,y\r3,a\x00b\x1b[31mred\x1b[0m\n")
    catalog = Catalog.read(tmp_path / "a.csv")
    assert catalog.titles == ["x", "y", "ab[31mred[0m"]
    assert "control or invisible" in " ".join(catalog.report.warnings)


def test_other_encodings_when_given(tmp_path):
    for encoding in ("cp1252", "utf-16"):
        (tmp_path / "a.csv").write_bytes("id,title\n1,café\n".encode(encoding))
        assert Catalog.read(tmp_path / "a.csv", encoding=encoding).titles == ["café"]
    with pytest.raises(CatalogError, match="encoding="):
        Catalog.read(tmp_path / "a.csv", encoding="no-such-code")


def test_half_a_surrogate_pair(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": "a", "title": "x\\ud800y"}\n{"id": "b\\udfff", "title": "z"}\n')
    catalog = Catalog.read(tmp_path / "a.jsonl")
    assert catalog.titles == ["x\ufffdy"]
    assert catalog.report.refused[0][0] == 2


# --- limits ---------------------------------------------------------------------------------------------------------


def test_limits_at_n_and_one_more(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"id,title,x\n1,aaaa,\n2,bbbb,\n")
    size = (tmp_path / "a.csv").stat().st_size
    assert len(Catalog.read(tmp_path / "a.csv", limits=Limits(rows=2, columns=3, decoded_bytes=size))) == 2
    for limits, message in (
        (Limits(rows=1), "more than 1 rows"),
        (Limits(columns=2), "more than 2 columns"),
        (Limits(decoded_bytes=size - 1), "unfolds"),
    ):
        with pytest.raises(CatalogError, match=message):
            Catalog.read(tmp_path / "a.csv", limits=limits)
    assert len(Catalog.read(tmp_path / "a.csv", limits=Limits(record_bytes=5))) == 2
    with pytest.raises(CatalogError, match="5 bytes; at most 4 are allowed"):
        Catalog.read(tmp_path / "a.csv", limits=Limits(record_bytes=4))


def test_compressed_bombs_are_refused_unless_trusted(tmp_path):
    rows = b"id,title\n" + b"".join(b"%d,%s\n" % (n, b"x" * 4000) for n in range(10_000))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(rows))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"id": 1, "title": "' + b"x" * 40_000_000 + b'"}\n'))
    with pytest.raises(CatalogError, match="bomb.*allow_large"):
        Catalog.read(tmp_path / "a.csv.gz")
    with pytest.raises(CatalogError, match="bomb|longer than"):
        Catalog.read(tmp_path / "a.jsonl.gz")
    assert len(Catalog.read(tmp_path / "a.csv.gz", allow_large=True)) == 10_000


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()])
def test_a_parquet_bomb_is_refused_before_it_unfolds(tmp_path, kind):
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_000_000, np.int32)), pa.array(["x" * 5000], kind))
    table = pa.table({"id": pa.array(np.arange(1_000_000)), "title": words})
    parquet.write_table(table, tmp_path / "a.parquet", compression="zstd", store_schema=False)
    before = pa.total_allocated_bytes()
    with pytest.raises(CatalogError, match="bomb"):
        read_table(tmp_path / "a.parquet")
    assert pa.total_allocated_bytes() - before < 200 * 2**20


def test_a_parquet_file_of_many_types(tmp_path):
    frame = pl.DataFrame(
        {
            "id": [1, 2],
            "title": ["a", "b"],
            "tags": [["wool", "warm"], None],
            "when": ["2024-05-01", None],
            "nested": [{"x": 1}, {"x": 2}],
            "raw": [b"1", b"2"],
            "rating": [1.5, float("nan")],
            "kind": pl.Series(["q", "r"], dtype=pl.Categorical),
            "huge": pl.Series([2**63, 1], dtype=pl.UInt64),
        }
    ).with_columns(pl.col("when").str.to_date())
    frame.write_parquet(tmp_path / "a.parquet")
    catalog = Catalog.read(tmp_path / "a.parquet")
    assert catalog.attributes(0)["tags"] == ["wool", "warm"]
    assert catalog.attributes(0)["when"] == "2024-05-01"
    assert catalog.attributes(0)["huge"] == str(2**63)
    assert "rating" not in catalog.attributes(1)
    assert "raw" not in catalog.attribute_names
    assert 'column "raw" holds raw bytes' in " ".join(catalog.report.warnings)


# --- any bytes ------------------------------------------------------------------------------------------------------


@given(st.one_of(st.binary(max_size=200), st.text(alphabet='id,tle\n\r"\t 12\x00é', max_size=80).map(str.encode)))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.csv.gz"])
def test_any_bytes_give_a_catalogue_or_a_clear_error(tmp_path, name, data):
    (tmp_path / name).write_bytes((b"id,title\n" if name == "a.csv" else b"") + data)
    try:
        catalog = Catalog.read(tmp_path / name)
    except CatalogError:
        return
    assert catalog.report.rows_in == catalog.report.indexed + len(catalog.report.refused)
    assert len(set(catalog.item_ids)) == len(catalog) == catalog.report.indexed


def test_only_repetitive_parquet_columns_are_read_as_dictionaries(tmp_path):
    """Read as a dictionary, a column of a million different titles would be copied whole into every batch."""
    count = 50_000
    frame = pl.DataFrame(
        {"id": np.arange(count), "title": [f"title {n}" for n in range(count)], "brand": ["b"] * count}
    )
    frame.write_parquet(tmp_path / "a.parquet")
    with parquet.ParquetFile(tmp_path / "a.parquet") as file:
        assert _repetitive(file) == ["brand"]
    assert Catalog.read(tmp_path / "a.parquet").titles[-1] == f"title {count - 1}"
