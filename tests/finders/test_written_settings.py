"""What a command line or a file says about a language model becomes its settings, or one clear sentence."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from genrail.errors import SettingsError
from genrail.finders.titles import TitlesRecipe
from genrail.finders.written_settings import read_examples, typed_setting
from genrail.models.prompts import Example, PromptTemplate


def test_examples_are_read_from_tables(tmp_path):
    (tmp_path / "few.csv").write_text("title,query,history\nEcco sandal,light shoes,\nRain boot,,Sandal|Trail boot\n")
    expected = (Example("Ecco sandal", "light shoes"), Example("Rain boot", None, ("Sandal", "Trail boot")))
    assert read_examples(tmp_path / "few.csv") == expected
    (tmp_path / "few.jsonl").write_text(json.dumps({"title": "Rain boot", "history": ["Sandal", "Trail boot"]}))
    assert read_examples(tmp_path / "few.jsonl") == expected[1:]


def test_the_recipe_takes_plain_values(tmp_path):
    (tmp_path / "few.csv").write_text("title,query\nEcco sandal,light shoes\n")
    plain = {"template": {"empty": "Which shoe?"}, "examples": str(tmp_path / "few.csv"), "item_facts": ["brand"]}
    settings = TitlesRecipe.from_dict({**plain, "dtype": "bfloat16"}).settings
    assert settings.template == PromptTemplate(empty="Which shoe?")
    assert settings.examples == (Example("Ecco sandal", "light shoes"),)
    assert (settings.item_facts, settings.dtype) == (("brand",), "bfloat16")
    assert TitlesRecipe.from_dict(TitlesRecipe(None, settings).to_dict()).settings == settings
    (tmp_path / "words.json").write_text(json.dumps(plain["template"]))
    assert typed_setting("template", str(tmp_path / "words.json")) == settings.template


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "few.csv").write_text("name,words\na,b\n")
    with pytest.raises(SettingsError, match="need a column title"):
        typed_setting("examples", str(tmp_path / "few.csv"))
    with pytest.raises(SettingsError, match="give a dictionary with some of system"):
        typed_setting("template", {"serach": "x"})
    with pytest.raises(SettingsError, match=r"few\.csv is no readable file of JSON"):
        typed_setting("template", str(tmp_path / "few.csv"))
    (tmp_path / "words.json").write_text('["Which shoe?"]')
    with pytest.raises(SettingsError, match="give a dictionary with some of system"):
        typed_setting("template", tmp_path / "words.json")
    with pytest.raises(SettingsError, match="title"):
        typed_setting("examples", [{"query": "light shoes"}])
    with pytest.raises(SettingsError, match="give a file"):
        typed_setting("examples", 3)
