"""What commands print at 80 columns: nothing is broken in the middle, headers are whole."""

import io

from rich.console import Console

from genrail.cli import console
from genrail.cli.rails import rails
from tests.shops import engine


def printed(monkeypatch, what):
    written = io.StringIO()
    monkeypatch.setattr(console, "_OUT", Console(file=written, width=80))
    what()
    return written.getvalue().splitlines()


def test_the_rails_are_one_line_each():
    written = io.StringIO()
    trace = engine().search("red boot", k=5, explain=True).trace
    tree = rails(trace, '"' + "something waterproof to walk the dog " * 3 + '"')
    Console(file=written, width=80).print(tree)
    lines = written.getvalue().splitlines()

    def nodes(branch):
        return 1 + sum(map(nodes, branch.children))

    assert len(lines) == nodes(tree) and max(map(len, lines)) <= 80
    assert sum("step" in line for line in lines) == len(trace.steps)
    assert any("kept" in line and "items" in line for line in lines)


def test_headers_and_numbers_of_an_evaluation_are_whole(monkeypatch):
    columns = ["engine", "R@5", "R@10", "R@100", "nDCG@5", "nDCG@10", "RR@100", "queries", "p50 ms"]
    rows = [[name, *[0.12345] * 6, 1190, 12.3456] for name in ("genrail", "two-tower (all-MiniLM-L6-v2)", "BM25")]
    lines = printed(monkeypatch, lambda: console.print_table("full catalogue", columns, rows))
    header = next(line for line in lines if "R@5" in line)
    assert max(map(len, lines)) <= 80 and all(column in header for column in columns)
    assert sum(line.count("0.1235") for line in lines) == 18


def test_long_texts_are_folded_and_nothing_is_lost(monkeypatch):
    title = "Waterproof trail running shoe " * 5
    lines = printed(monkeypatch, lambda: console.print_table("hits", ["rank", "item", "title"], [[1, "sku-1", title]]))
    assert max(map(len, lines)) <= 80
    assert "".join(lines).count("Waterproof") == 5
