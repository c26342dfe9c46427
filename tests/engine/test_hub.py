"""What a language model was taught is pushed by name, with its card; nothing here reaches a hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import huggingface_hub
from typer.testing import CliRunner

import genrail
from genrail.cli.commands import app
from genrail.errors import ApiError, SettingsError
from genrail.models.model_card import ModelCard
from tests.finders.test_fine_tuning import QRELS, QUERIES, QUICK, engine


class Hub:
    """Stand for the hub: keeps what was uploaded."""

    fails = None
    repositories: dict = {}

    def __init__(self, token=None):
        self.token = token

    def create_repo(self, repo_id, *, private, exist_ok, repo_type):
        if Hub.fails is not None:
            raise Hub.fails
        assert exist_ok and repo_type == "model"
        Hub.repositories[repo_id] = {"private": private, "token": self.token}
        return f"https://hub.example/{repo_id}"

    def upload_folder(self, *, repo_id, folder_path, repo_type, commit_message):
        files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        Hub.repositories[repo_id] |= {"files": files, "message": commit_message}


@pytest.fixture(autouse=True)
def hub(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    Hub.fails, Hub.repositories = None, {}
    return Hub


@pytest.fixture(scope="module")
def taught():
    own = engine()
    own.train(queries=QUERIES, qrels=QRELS, **QUICK, seed=3)
    return own


def test_the_weights_are_pushed_with_their_card(taught, hub):
    assert taught.push_to_hub("me/shop", private=True, token="t") == "https://hub.example/me/shop"
    pushed = hub.repositories["me/shop"]
    assert pushed["private"] and pushed["token"] == "t"
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= set(pushed["files"])
    card = pushed["files"]["README.md"].decode()
    assert card.startswith("---\nlibrary_name: transformers\n")
    for told in ("| judged | 12 requests |", "| learns | all |", "| validation |", "Seed: 3", "Items: 12", "| torch |"):
        assert told in card


def test_an_adapter_goes_without_its_base(hub, tmp_path):
    pytest.importorskip("peft", reason='needs the extra: pip install "genrail[peft]"')
    own = engine()
    object.__setattr__(own.edition.finder.spelling, "source", "SmolLM2-135M")  # as if it came by name
    own.edition.finder.spelling.model.name = "SmolLM2-135M"
    own.train(queries=QUERIES, qrels=QRELS, **QUICK | {"learns": "lora", "rank": 2})
    own.push_to_hub("me/adapter")
    files = hub.repositories["me/adapter"]["files"]
    assert set(files) == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    card = files["README.md"].decode()
    for told in ("library_name: peft", "license: apache-2.0", "base_model: HuggingFaceTB/SmolLM2-135M-Instruct"):
        assert told in card
    own.save(tmp_path / "e")
    assert next((tmp_path / "e").glob("**/adapter/README.md")).read_text() == card


def test_a_saved_engine_knows_its_card_and_the_command_pushes_it(taught, hub, tmp_path):
    taught.save(tmp_path / "e")
    assert genrail.load(tmp_path / "e").edition.finder.spelling.card == taught.edition.finder.spelling.card
    result = CliRunner().invoke(app, ["push", str(tmp_path / "e"), "me/shop", "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["url"] == "https://hub.example/me/shop"
    assert hub.repositories["me/shop"]["message"].startswith("Push what")


def test_what_was_not_taught_is_not_pushed(hub):
    with pytest.raises(SettingsError, match="train it first"):
        engine().push_to_hub("me/shop")
    assert not hub.repositories


def test_a_hub_that_refuses_is_a_sentence(taught, hub):
    hub.fails = OSError("401 Client Error\nmore")
    with pytest.raises(ApiError, match=r"me/shop could not be pushed \(401 Client Error\)"):
        taught.push_to_hub("me/shop")


def test_a_card_names_the_terms_of_its_base():
    card = ModelCard("Gemma-3-270M", 5, {"text": 4}, {}, {"held out": "0 | 1"}, versions={})
    assert "license: other" in card.text(True) and "Gemma Terms of Use" in card.text(True)
    assert r"0 \| 1" in card.text(False) and "base_model: google/gemma-3-270m" in card.text(False)
    assert ModelCard.from_dict(json.loads(json.dumps(card.to_dict()))) == card
    assert "base_model" not in ModelCard("here", 1, {}, {}, {}).text(False)
