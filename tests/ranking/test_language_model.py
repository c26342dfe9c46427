"""Rankers that are language models, against plain forwards of transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genrail.errors import QueryError, SettingsError
from genrail.models.causal import CausalModel
from genrail.models.item_states import ItemStates
from genrail.models.prompts import Prompts
from genrail.ranking.language_model import CrossEncoderScorer, QueryLikelihood, Relevance, TitleLikelihood
from tests.models import checkpoints

ITEMS = ["Nike Air Max red", "Ecco Sandal", "Salomon Trail Runner olive green", "Nike Air Max red", "Clarks"]
TEMPLATE = "Product: {item}\nSearched for: {query}"


@pytest.fixture(scope="module")
def tokenizer():
    return checkpoints.tokenizer()


@pytest.fixture(scope="module", params=["qwen2", "gemma3"])
def model(request, tokenizer):
    return CausalModel(checkpoints.model(request.param, len(tokenizer)), tokenizer)


def table(model, ids):
    """Log-probabilities behind each token, by one plain forward."""
    with torch.inference_mode():
        return torch.log_softmax(model.model(input_ids=torch.tensor([ids])).logits[0].double(), dim=-1).numpy()


def tokens(model, text):
    return model.tokenizer(text)["input_ids"]


def query_score(model, item, query):
    before = tokens(model, "Product:") + tokens(model, f" {item}") + tokens(model, "\nSearched for:")
    words = tokens(model, f" {query}")
    found = table(model, [*before, *words])
    return np.mean([found[len(before) - 1 + place, token] for place, token in enumerate(words)])


def test_query_likelihood_is_the_mean_of_the_words_tokens_behind_the_item(model):
    scorer = QueryLikelihood(model, TEMPLATE)
    expected = [query_score(model, item, "red trail") for item in ITEMS]
    np.testing.assert_allclose(scorer.score("red trail", [], ITEMS), expected, atol=2e-2)  # states in float16


def test_an_item_is_read_once_and_answers_the_same_from_memory_and_disk(model, tmp_path):
    fresh = QueryLikelihood(model, TEMPLATE).score("red", [], ITEMS)
    states = ItemStates(tmp_path)
    first = QueryLikelihood(model, TEMPLATE, states).score("red", [], ITEMS)
    assert states.read == 4  # two items have one text
    again = QueryLikelihood(model, TEMPLATE, states).score("red", [], ITEMS)
    assert states.read == 4
    np.testing.assert_array_equal(first, fresh)
    np.testing.assert_array_equal(again, fresh)
    reopened = ItemStates(tmp_path)
    from_disk = QueryLikelihood(model, TEMPLATE, reopened).score("red", [], ITEMS)
    assert reopened.read == 0
    np.testing.assert_array_equal(from_disk, fresh)


def test_a_damaged_state_is_read_again(model, tmp_path):
    fresh = QueryLikelihood(model, TEMPLATE, ItemStates(tmp_path)).score("red", [], ITEMS[:2])
    for path in tmp_path.rglob("*.npy"):
        path.write_bytes(path.read_bytes()[:100])
    states = ItemStates(tmp_path)
    np.testing.assert_allclose(QueryLikelihood(model, TEMPLATE, states).score("red", [], ITEMS[:2]), fresh)
    assert states.read == 2


def test_memory_and_disk_are_bounded(model, tmp_path):
    states = ItemStates(tmp_path, memory_bytes=20_000, disk_bytes=20_000)
    scorer = QueryLikelihood(model, TEMPLATE, states)
    texts = [f"Nike Air {number}" for number in range(30)]
    found = scorer.score("red", [], texts)
    assert states.nbytes <= 20_000
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 22_000
    np.testing.assert_allclose(found, QueryLikelihood(model, TEMPLATE).score("red", [], texts), atol=1e-4)


def test_relevance_is_the_probability_of_yes_against_no(model):
    scorer = Relevance(model, "Product: {item}\nSearched for: {query}\nAnswer:", answers=(" red", " black"))
    for item, score in zip(ITEMS, scorer.score("trail", [], ITEMS), strict=True):
        parts = ["Product:", f" {item}", "\nSearched for:", " trail", "\nAnswer:"]
        last = table(model, [token for part in parts for token in tokens(model, part)])[-1]
        yes, no = (last[tokens(model, answer)[0]] for answer in (" red", " black"))
        np.testing.assert_allclose(score, yes - np.logaddexp(yes, no), atol=2e-2)  # states in float16


def title_score(model, prompt, item):
    own = tokens(model, item)
    found = table(model, [*prompt, *own])
    return sum(found[len(prompt) - 1 + place, token] for place, token in enumerate(own))


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_title_likelihood_takes_off_what_the_empty_request_gives(model, weight):
    prompts = Prompts(model.tokenizer, chat=False)
    scorer = TitleLikelihood(model, prompts, weight)
    for query, history in (("red", []), (None, ["Nike Air", "Ecco Sandal"])):
        asked, empty = prompts.render(query, history), prompts.empty()
        expected = [title_score(model, asked, item) - weight * title_score(model, empty, item) for item in ITEMS]
        for _ in range(2):  # the second time what they have anyway is known
            np.testing.assert_allclose(scorer.score(query, history, ITEMS), expected, atol=1e-3)


def test_a_cross_encoder_sees_words_or_else_the_history():
    class Lengths:
        def predict(self, pairs, show_progress_bar):
            return np.array([len(left) + len(right) for left, right in pairs], dtype=np.float32)

    scorer = CrossEncoderScorer(Lengths())
    assert scorer.score("red", ["x"], ["a", "bc"]).tolist() == [4.0, 5.0]
    assert scorer.score(None, ["x", "y"], ["a"]).tolist() == [5.0]
    with pytest.raises(QueryError, match="the request is empty"):
        scorer.score(" ", [], ["a"])


def test_no_item_is_fine(model):
    for scorer in (QueryLikelihood(model), Relevance(model, answers=(" red", " black")), TitleLikelihood(model)):
        assert scorer.score("red", [], []).shape == (0,)


def test_what_cannot_be_ranked_is_refused(model, tokenizer):
    with pytest.raises(QueryError, match="rank histories by title likelihood"):
        QueryLikelihood(model).score(None, ["Nike"], ITEMS)
    with pytest.raises(QueryError, match=r"text 0 has \d+ tokens with the request"):
        QueryLikelihood(model).score("red " * 300, [], ITEMS)
    with pytest.raises(SettingsError, match=r"must hold \{item\} and then \{query\}"):
        QueryLikelihood(model, "{query} {item}")
    with pytest.raises(SettingsError, match="begin with the same token"):
        Relevance(model, answers=(" red", " red"))
    rows = CausalModel(checkpoints.model("qwen2", len(tokenizer)), tokenizer, attention="rows")
    with pytest.raises(SettingsError, match="cannot share attention"):
        QueryLikelihood(rows)
