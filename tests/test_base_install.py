"""The base install, without numba and pyarrow: the same answers, and a line to install for what is missing."""

from __future__ import annotations

import json
import subprocess
import sys

import polars as pl
import pytest

from genrail.catalog import csv_files
from genrail.catalog.readers import read_table

LEAN = """
import json, sys, warnings
for name in {missing}:
    sys.modules[name] = None  # as if it were not installed
warnings.simplefilter("ignore")
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {missing} else find(name, *rest)
from genrail import Engine
from genrail.errors import GenrailError
from genrail.constraints import Trie
from genrail.decoding.beam_search import beam_search
from genrail.models.tiny_lm import UniformModel
engine = Engine.build("items.csv", recipe="bm25")
engine.add([{{"id": "n", "title": "glow in the dark runner"}}])
trie = Trie.from_sequences([[1, 2], [1, 3], [0, 3]], vocab_size=4)
[answer] = beam_search(UniformModel(4), [[0]], trie, subsets=[trie.only([0, 2])], k=2)
try:
    refused = len(Engine.build("items.parquet", recipe="bm25"))
except GenrailError as error:
    refused = str(error)
found = [[hit.item_id, round(hit.score, 9)] for query in ("trail shoes", "dark") for hit in engine.search(query)]
print(json.dumps([found, answer.rows.tolist(), answer.log_probabilities.round(9).tolist(), refused]))
"""


def answers(folder, *missing):
    code = LEAN.format(missing=missing)
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_answers_are_those_of_the_full_install(tmp_path):
    titles = ["Trail shoe", "Wool sock", 'Sandal, "light"', "Trail boot"]
    items = pl.DataFrame({"id": ["007", "b", "c", "d"], "title": titles})
    items.write_csv(tmp_path / "items.csv")
    items.write_parquet(tmp_path / "items.parquet")
    *full, read = answers(tmp_path)
    *lean, refused = answers(tmp_path, "numba", "pyarrow")
    assert full == lean and full[0][0][0] == "007" and read == 4
    assert 'items.parquet: reading Parquet needs the package "pyarrow"' in refused and "genrail[arrow]" in refused


CELLS = ("a", "", "007", 'say "hi"', "two\nlines", "comma, here", " blank ", "é", "x" * 300)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_both_parsers_read_one_table(tmp_path, monkeypatch, delimiter):
    rows = [[CELLS[(place + shift) % len(CELLS)] for shift in (0, 3, 4)] for place in range(40)]
    frame = pl.DataFrame(rows, schema=["one", "two", "three"], orient="row")
    text = frame.write_csv(separator=delimiter, quote_style="always") + f"too{delimiter}few\n" * 2
    (tmp_path / "items.csv").write_text(text)
    read = []
    for arrow in (True, False):
        monkeypatch.setattr(csv_files, "ARROW", arrow)
        read.append(read_table(tmp_path / "items.csv"))
    assert read[0].frame.equals(read[1].frame) and read[0].refused == read[1].refused and len(read[0].refused) == 2
