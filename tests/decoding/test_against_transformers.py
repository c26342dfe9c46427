"""Beam search equals `generate(prefix_allowed_tokens_fn=...)`, and exhaustive scoring, on real checkpoints in small."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from genrail.constraints import Trie
from genrail.decoding import BeamSettings, beam_search, exact_search, score_sequences
from genrail.models.checkpoints import wrap
from genrail.models.plain_text import plain_tokens
from genrail.models.prompts import Prompts
from tests.models import checkpoints

DATA = Path(__file__).parents[2] / "../shared/data/amazon_beauty/items.csv.gz"


def real_titles(count):
    if not DATA.exists():
        pytest.skip("../shared/data is absent: the titles of amazon_beauty are needed")
    with gzip.open(DATA, "rt", encoding="utf-8", newline="") as lines:
        titles = [row["title"] for row in csv.DictReader(lines)]
    return [title for title in titles if title.strip()][:count]


class Lane:
    """A model with its prompts and titles, and the same search by transformers."""

    def __init__(self, family, titles, vocab_size, **settings):
        self.titles = titles
        self.tokenizer = checkpoints.tokenizer(titles, vocab_size)
        built = checkpoints.model(family, len(self.tokenizer) + 5, **settings)
        self.model = wrap(built, self.tokenizer)
        self.prompts = Prompts(self.tokenizer, seq2seq=family == "t5")
        self.sequences = [[*tokens, 2] for tokens in plain_tokens(self.tokenizer, titles)]
        self.end = 2

    def trie(self):
        return Trie.from_sequences(self.sequences, len(self.tokenizer), end_token=self.end)

    def generate(self, prompt, width, k, end_tokens=2):
        children = {}
        for sequence in self.sequences:
            for depth, token in enumerate(sequence):
                children.setdefault(tuple(sequence[:depth]), set()).add(token)
        seq2seq = self.model.family == "seq2seq"
        skip = 1 if seq2seq else len(prompt)

        def allowed(_, ids):
            return sorted(children.get(tuple(ids[skip:].tolist()), {self.end}))

        with torch.inference_mode():
            output = self.model.model.generate(
                input_ids=torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
                prefix_allowed_tokens_fn=allowed,
                num_beams=width,
                num_return_sequences=k,
                max_new_tokens=max(map(len, self.sequences)) + 1,
                do_sample=False,
                length_penalty=0.0,  # scores are plain sums
                early_stopping=False,  # with length_penalty 0 this stops exactly when nothing can improve
                eos_token_id=end_tokens,
                pad_token_id=0,
                output_scores=True,
                return_dict_in_generate=True,
            )
        found = []
        for ids in output.sequences[:, skip:].tolist():
            found.append(tuple(ids[: ids.index(self.end) + 1]))
        return found, output.sequences_scores.tolist()


@pytest.fixture(scope="module", params=["qwen2", "llama", "gpt2", "sliding", "t5"])
def lane(request):
    return Lane(request.param, checkpoints.TITLES, 400)


def assert_equal_to_generate(answer, sequences, scores):
    """Compare sequence by sequence; ours gives k items, theirs k sequences, and some items share a title."""
    ours = dict(zip(answer.tokens, answer.log_probabilities, strict=True))
    assert list(ours) == sequences[: len(ours)]
    np.testing.assert_allclose(list(ours.values()), scores[: len(ours)], atol=1e-4)


@pytest.mark.parametrize("jump", [True, False])
@pytest.mark.parametrize("width", [10, 25])
def test_beam_search_equals_generate(lane, width, jump):
    prompt = lane.prompts.render("red boots", ["Nike Air", "Clarks Sandal"])
    settings = BeamSettings(width=width, finish="width", jump_tails=jump)
    [answer] = beam_search(lane.model, [prompt], lane.trie(), settings, k=10)
    assert_equal_to_generate(answer, *lane.generate(prompt, width, 10))


def test_several_end_tokens_change_nothing(lane):
    """An identifier ends with the tokenizer's own end token; the other one is a token like any other."""
    prompt = lane.prompts.render("navy")
    [answer] = beam_search(lane.model, [prompt], lane.trie(), BeamSettings(width=10, finish="width"), k=10)
    assert_equal_to_generate(answer, *lane.generate(prompt, 10, 10, end_tokens=[2, 4]))


def test_a_wide_beam_equals_exhaustive_scoring(lane):
    prompt = lane.prompts.render("red boots")
    [answer] = beam_search(lane.model, [prompt], lane.trie(), BeamSettings(width=len(lane.sequences)), k=50)
    expected = score_sequences(lane.model, prompt, lane.sequences)
    np.testing.assert_allclose(answer.log_probabilities, np.sort(expected)[::-1][:50], atol=1e-4)
    np.testing.assert_allclose(answer.log_probabilities, expected[answer.rows], atol=1e-4)
    assert answer.exact


def test_prompts_of_different_length_answer_as_one_by_one(lane):
    prompts = [lane.prompts.render("red"), lane.prompts.render(None, ["Nike Air"] * 5), lane.prompts.render("x", ["y"])]
    index = lane.trie()
    together = beam_search(lane.model, prompts, index, k=10)
    for prompt, answer in zip(prompts, together, strict=True):
        [alone] = beam_search(lane.model, [prompt], index, k=10)
        assert answer.rows.tolist() == alone.rows.tolist()
        assert answer.log_probabilities.tolist() == alone.log_probabilities.tolist()


@pytest.mark.parametrize("family", ["qwen2", "t5"])
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("count", [100, pytest.param(5000, marks=pytest.mark.slow)])
def test_real_titles(family, count):
    """Equal to `generate` and to exhaustive scoring on titles as shops write them."""
    settings = {"max_position_embeddings": 1024} if family == "qwen2" else {}
    lane = Lane(family, real_titles(count), 2000, **settings)
    prompt = lane.prompts.render("gentle shampoo for dry hair", lane.titles[:2])
    index = lane.trie()
    [answer] = beam_search(lane.model, [prompt], index, BeamSettings(width=20, finish="width"), k=10)
    assert_equal_to_generate(answer, *lane.generate(prompt, 20, 10))
    expected = score_sequences(lane.model, prompt, lane.sequences)
    [wide] = beam_search(lane.model, [prompt], index, BeamSettings(width=len(lane.titles)), k=10)
    np.testing.assert_allclose(wide.log_probabilities, np.sort(expected)[::-1][:10], atol=1e-4)
    np.testing.assert_allclose(wide.log_probabilities, expected[wide.rows], atol=1e-4)
    if lane.model.joins_states and count <= 100:  # a random model is sure of nothing: a proof reads nearly all prefixes
        [proven] = exact_search(lane.model, [prompt], index, k=10)
        assert proven.exact
        np.testing.assert_allclose(proven.log_probabilities, wide.log_probabilities, atol=1e-4)
