"""Without torch a verb that needs it says so in one sentence; nothing is published and no traceback is shown."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

WITHOUT_TORCH = (
    "import sys; sys.argv[0] = 'genrail'; sys.modules |= dict.fromkeys("
    "['torch', 'sklearn', 'scipy', 'ir_measures', 'transformers', 'tokenizers', 'safetensors', 'pandas']); "
    "from genrail.cli.main import run; run()"
)


def without_torch(*words):
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def refused(done, extra="torch"):
    assert done.returncode == 2, done.stderr
    said = " ".join(done.stderr.split())
    assert "Traceback" not in said
    assert said.count("error: ") == 1
    assert f'pip install "genrail[{extra}' in said


def test_build(tmp_path):
    (tmp_path / "shop.csv").write_text("sku,name\n1,red boot\n2,blue clog\n")
    refused(without_torch("build", tmp_path / "shop.csv", "--out", tmp_path / "shop.genrail"))
    assert not (tmp_path / "shop.genrail" / "CURRENT").exists()


@pytest.mark.parametrize("recipe", ["tiger", "codes"])
def test_build_of_a_recipe_that_learns(tmp_path, recipe):
    (tmp_path / "shop.csv").write_text("sku,name\n1,red boot\n2,blue clog\n")
    (tmp_path / "events.csv").write_text("user,sku\nu,1\nu,2\nv,2\nv,1\n")
    words = (tmp_path / "shop.csv", "--recipe", recipe, "--interactions", tmp_path / "events.csv")
    model = ("--model", tmp_path) if recipe == "codes" else ()
    refused(without_torch("build", *words, *model, "--out", tmp_path / "shop.genrail"))
    assert not (tmp_path / "shop.genrail" / "CURRENT").exists()


def test_search_and_recommend(tmp_path):
    pytest.importorskip("torch")
    import genrail

    shop = genrail.Catalog.from_items([{"sku": str(n), "name": f"boot {n}"} for n in range(8)])
    genrail.Engine.build(shop, encoder="hashing", epochs=1).save(tmp_path / "shop.genrail")
    refused(without_torch("search", tmp_path / "shop.genrail", "red boot"))
    refused(without_torch("recommend", tmp_path / "shop.genrail", "--history", "1"))


def test_an_engine_of_words_is_built_and_searched_with_the_base_alone(tmp_path):
    (tmp_path / "shop.csv").write_text("sku,name\n1,red boot\n2,blue clog\n")
    done = without_torch("build", tmp_path / "shop.csv", "--lanes", "bm25", "--out", tmp_path / "e")
    assert done.returncode == 0, done.stderr
    assert "words 1/1" in done.stderr  # a log has lines, not bars
    found = without_torch("search", tmp_path / "e", "clogs", "-k", 1, "--json")
    assert json.loads(found.stdout)["hits"][0]["item_id"] == "2", found.stderr
    (tmp_path / "queries.csv").write_text("query_id,query\nq,clog\n")
    (tmp_path / "qrels.csv").write_text("query_id,sku,relevance\nq,2,1\n")
    judged = ["--queries", tmp_path / "queries.csv", "--qrels", tmp_path / "qrels.csv"]
    refused(without_torch("evaluate", tmp_path / "e", *judged), "evaluation")


def test_what_needs_no_torch_runs(tmp_path):
    assert without_torch("--help").returncode == 0
    done = without_torch("doctor", "--json")
    assert done.returncode == 0, done.stderr
    assert {row["package"]: row["version"] for row in json.loads(done.stdout)["packages"]}["torch"] == ""
