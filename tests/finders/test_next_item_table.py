"""The recommendation table runs unchanged on any folder of the schema."""

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

RECIPES = Path(__file__).parents[2] / "recipes"
ITEMS, USERS = 30, 40


@pytest.fixture
def folder(tmp_path):
    """A small set with what real ones have: an item nobody took, one without a title, twins, a user of one event."""
    random = np.random.default_rng(0)
    made = tmp_path / "set"
    made.mkdir()
    with (made / "items.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "title", "attributes"])
        for item in range(ITEMS):
            title = "" if item == 7 else f"{['red', 'blue', 'green'][item % 3]} thing {item // 2}"
            writer.writerow([f"id-{item}", title, f"kind {item % 3}|shop"])
        writer.writerow(["never", "red thing 0", "kind 0|shop"])
    with gzip.open(made / "sequences.csv.gz", "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_ids"])
        for user in range(USERS):
            start = int(random.integers(0, ITEMS))
            writer.writerow([f"u{user}", " ".join(f"id-{(start + step) % ITEMS}" for step in range(6))])
        writer.writerow(["lonely", "id-3"])
        writer.writerow(["surprised", "id-1 id-2 never"])
    return made


@pytest.fixture
def run(monkeypatch):
    """Run the recipe's `main` in this process."""
    monkeypatch.syspath_prepend(str(RECIPES))
    import next_item_table

    def call(folder, out, *options):
        monkeypatch.setattr(sys, "argv", ["table", str(folder), "--out", str(out), *options])
        next_item_table.main()

    return call


def test_lanes_table_and_pictures(folder, tmp_path, run, monkeypatch, capsys):
    import next_item_lanes
    import next_item_table

    members = ("Co-occurrence", "Popularity")
    monkeypatch.setattr(next_item_table, "HYBRIDS", {"both": members, "absent": ("Native", "SASRec")})
    out = tmp_path / "out"
    lanes = ["Popularity", "Markov", "Co-occurrence", "Item-kNN", "TF-IDF"]
    assert set(lanes) <= set(next_item_lanes.LANES)
    for lane in lanes:
        run(folder, out, "--only", lane)
    run(folder, out, "--resume", "--lanes", *lanes)
    printed = capsys.readouterr().out
    for lane in [*lanes, "both"]:
        assert printed.count(f"\n{lane} ") >= 2, lane  # excluded and kept
    figures = json.loads((out / "figures.json").read_text())
    recall = figures["metrics"]["Co-occurrence"]["test"]["R@10"]
    assert recall["low"] <= recall["mean"] <= recall["high"]
    assert recall["mean"] > 0.8  # the next item always follows the last one
    assert figures["hybrids against their best lanes"]["both"]["R@10"]["best lane"] == "Co-occurrence"
    assert figures["buckets"]["share of targets"][3] > 0  # the surprise
    assert figures["costs"]["Markov"]["peak memory MiB"] > 0
    html = (out / "report.html").read_text()
    assert html.count("<svg") >= 2
    assert "http" not in html


def test_a_set_without_a_tested_user_is_refused(tmp_path, run):
    (tmp_path / "items.csv").write_text("item_id,title,attributes\na,A,x\nb,B,y\n")
    (tmp_path / "sequences.csv").write_text("user_id,item_ids\nu,a b\nv,b\n")
    with pytest.raises(SystemExit, match="no user has three events"):
        run(tmp_path, tmp_path / "out", "--only", "Popularity")


@pytest.mark.slow
def test_the_shell_script_runs_every_lane(folder, tmp_path):
    environment = {**os.environ, "PYTHON": sys.executable}
    command = ["sh", str(RECIPES / "recommend_beauty.sh"), str(folder), str(tmp_path / "out"), "--max-seconds", "5"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert {"SASRec", "Native", "Hybrid of all"} <= set(figures["metrics"])
    assert figures["costs"]["SASRec"]["curve"]
