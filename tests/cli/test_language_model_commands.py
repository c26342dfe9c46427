"""Language models on the command line: built with settings as words, and the demo that lets one write and rank."""

import json

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("transformers")

import genrail.catalog
from genrail.cli.main import app
from tests.models import checkpoints


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    tokenizer, folder = checkpoints.tokenizer(), tmp_path_factory.mktemp("model")
    built = checkpoints.model("llama", len(tokenizer) + 8, max_position_embeddings=512)
    for part in (built, tokenizer):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def shop():
    titles = checkpoints.TITLES[:24]
    return [
        {"id": f"t{row}", "title": title, "category": f"Shoes > {title.split()[1]}"} for row, title in enumerate(titles)
    ]


def good(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, f"{words}\n{result.output}\n{result.exception!r}"
    return result.output


def test_settings_of_a_model_are_given_as_words(model, shop, tmp_path):
    (tmp_path / "shop.json").write_text(json.dumps(shop))
    (tmp_path / "few.csv").write_text("title,query\nEcco Sandal,light shoes\n")
    settings = ["spelling=kind-first", f"examples={tmp_path / 'few.csv'}", "dtype=bfloat16", "calibration=0.5"]
    settings += ['template={"search": "Find {query}"}']
    good(
        "build",
        tmp_path / "shop.json",
        "--model",
        model,
        "--out",
        tmp_path / "e",
        *(f"--set={one}" for one in settings),
    )
    found = json.loads(good("search", tmp_path / "e", "boot", "--json", "-k", 3))
    assert len(found["hits"]) == 3
    kept = genrail.load(tmp_path / "e").edition.finder.spelling
    assert kept.settings.template.search == "Find {query}"
    assert kept.settings.examples[0].title == "Ecco Sandal"
    assert kept.model.describe()["dtype"] == "bfloat16"
    assert "Shoes:" in good("search", tmp_path / "e", "boot", "--explain", "-k", 3)


def test_the_demo_lets_a_language_model_write_and_rank(model, shop, tmp_path, monkeypatch):
    monkeypatch.setattr(genrail.catalog, "demo_catalog", lambda seed: genrail.Catalog.from_items(shop))
    printed = good("demo", "--model", model, "--out", tmp_path / "demo")
    assert "written on rails" in printed
    assert "ranked by the model" in printed
    assert (tmp_path / "demo" / "language-model.genrail").is_dir()
