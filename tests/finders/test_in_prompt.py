"""The whole catalogue in the prompt: a finder like others, which counts what the model invents."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import genrail
from genrail.errors import SettingsError
from genrail.finders.in_prompt import InPrompt, InPromptRecipe
from genrail.finding import Data
from genrail.models.checkpoints import wrap
from genrail.types import Query
from tests.contracts.finder import FinderContract
from tests.models import checkpoints


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tokenizer, place = checkpoints.tokenizer(), tmp_path_factory.mktemp("model")
    built = checkpoints.model("llama", len(tokenizer) + 8, max_position_embeddings=2048)
    for part in (built, tokenizer):
        part.save_pretrained(place)
    return str(place)


class TestInPrompt(FinderContract):
    @pytest.fixture(autouse=True)
    def _model(self, folder):
        self.folder = folder

    def recipe(self):
        return InPromptRecipe(self.folder, lines=2, max_tokens=4)

    def checks(self, path):
        return False  # the finder writes no file

    def test_what_is_read_changes_the_answer_and_nothing_else_does(self):
        pytest.skip("a random model writes no title; a dictated answer is looked up below")


def shop():
    return genrail.Catalog.from_items(
        [{"id": f"t{row}", "title": title} for row, title in enumerate(checkpoints.TITLES[:20])]
    )


class Dictating:
    """Write what it was told, token by token."""

    name, context_size, end_tokens = "dictating", 4096, (2,)

    def __init__(self, tokenizer, text):
        self.tokenizer, self.vocab_size = tokenizer, len(tokenizer)
        self.tokens = [*tokenizer(text, add_special_tokens=False)["input_ids"], 2]

    def remember_prefix(self, tokens):
        assert tokens

    def prefill(self, contexts):
        return 0, self.row(0)

    def step(self, state, parents, tokens):
        return state + 1, self.row(state + 1)

    def row(self, place):
        return np.eye(self.vocab_size, dtype=np.float32)[[self.tokens[place]]]


def test_lines_are_looked_up_and_inventions_counted():
    catalog = shop()
    text = f"2. {catalog.titles[7].upper()}\nA shoe of gold\n{catalog.titles[3]}\n"
    model = Dictating(checkpoints.tokenizer(), text)
    finder = InPrompt(catalog, model, InPromptRecipe(model))
    ranking = finder.search_batch([Query("boot")], k=5)[0]
    assert ranking.item_ids[:2] == ["t7", "t3"]
    assert len(ranking) == 5
    assert ranking.warnings == ("1 of 3 titles that the model wrote are no item",)
    without = finder.search_batch([Query("boot", exclude=["t7"])], k=5)[0]
    assert without.item_ids[0] == "t3"
    assert finder.search_batch([Query("boot")], k=1)[0].warnings == ()  # one line is read


def test_a_catalogue_that_does_not_fit_is_refused(folder, tmp_path):
    tokenizer = checkpoints.tokenizer()
    model = wrap(checkpoints.model("llama", len(tokenizer), max_position_embeddings=300), tokenizer)
    with pytest.raises(SettingsError, match=r"the titles of 20 items take \d+ tokens, .* reads 300"):
        InPromptRecipe(model).build(Data(shop()), lambda *_: None)
    with pytest.raises(SettingsError, match="takes a causal language model"):
        genrail.Engine.build(shop(), "in-prompt")
    roomy = wrap(checkpoints.model("llama", len(tokenizer), max_position_embeddings=2048), tokenizer)
    with pytest.raises(SettingsError, match="give its name or folder to save it"):
        genrail.Engine.build(shop(), "in-prompt", model=roomy, max_tokens=2).save(tmp_path / "never")


def test_it_is_a_method_to_compare(folder):
    own = genrail.Engine.build(shop(), "in-prompt", model=folder, max_tokens=6)
    report = genrail.compare([own, genrail.BM25(shop())], {"q": "sandal"}, {"q": {"t3": 1}})
    assert own.name in report.evaluations
