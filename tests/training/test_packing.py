"""Packed examples give what each would give alone, and the losses are what decoding reads."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from genrail.constraints import LiveTrie, Trie
from genrail.constraints.compressed import compressed
from genrail.decoding import BeamSettings, beam_search, score_sequences
from genrail.identifiers.titles import Titles
from genrail.models.causal import CausalModel
from genrail.models.prompts import Prompts, PromptTemplate
from genrail.training.packing import Answers, Pack, TrainingExample, packed
from genrail.training.rails import Branchings, contrastive_losses, hidden_states, token_loss
from tests.models import checkpoints

TITLES = checkpoints.TITLES[:40]
REQUESTS = [
    ("air max", []),
    ("air", []),
    (None, TITLES[:1]),
    (None, TITLES[:3]),
    (None, TITLES[:5]),
    ("boot", TITLES[:2]),
]


def make(family="llama"):
    tokenizer = checkpoints.tokenizer()
    model = CausalModel(checkpoints.model(family, len(tokenizer), sharpness=2.0), tokenizer)
    table = Titles(tokenizer).assign(TITLES)
    trie = Trie.from_flat(table.tokens, table.offsets, table.vocab_size, table.end_token)
    prompts = Prompts(tokenizer)
    examples = [
        TrainingExample(prompts.render(*request), [row, row + 7], [0.75, 0.25]) for row, request in enumerate(REQUESTS)
    ]
    return model, LiveTrie(trie), examples


def losses(model, index, examples, rails=True, **how):
    packs = packed(examples, Answers(compressed(index)), rails=rails, **how)
    hidden = hidden_states(model.body, packs, model.sees if model.reads_runs else None)
    if rails:
        return Branchings(hidden, packs, compressed(index), model.output).loss()
    return token_loss(hidden, packs, model.output)


@pytest.mark.parametrize("family", ["llama", "qwen2", "sliding", "gemma3", "gemma2"])
def test_a_pack_gives_what_its_sequences_give_alone(family):
    model, index, examples = make(family)
    packs = packed(examples, Answers(compressed(index)), size=300)
    assert 1 < len(packs) < len(examples) and sum(pack.weight for pack in packs) == len(examples)
    with torch.no_grad():
        hidden = hidden_states(model.body, packs, model.sees)
        first = 0
        for pack in packs:
            for slot in [*range(0, len(pack), 29), len(pack) - 1]:
                ids = torch.tensor([[pack.ids[one] for one in pack.path(slot)]])
                alone = model.body(input_ids=ids, use_cache=False)[0][0, -1]
                assert torch.allclose(hidden[first + slot], alone, atol=2e-4, rtol=1e-3)
            first += len(pack)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "bloom"])
def test_the_loss_on_rails_is_what_decoding_reads(family):
    model, index, examples = make(family)
    size = 200 if model.reads_runs else None
    with torch.no_grad():
        loss = float(losses(model, index, examples, size=size))
    everything = BeamSettings(width=len(TITLES), meaning="renormalised", jump_tails=False)
    found = beam_search(model, [list(one.prompt) for one in examples], index, everything, None, len(TITLES))
    wanted = 0.0
    for example, answer in zip(examples, found, strict=True):
        by_row = dict(zip(answer.rows.tolist(), answer.scores.tolist(), strict=True))
        wanted -= sum(weight * by_row[row] for row, weight in zip(example.rows, example.weights, strict=True))
    assert loss == pytest.approx(wanted, rel=1e-4)


def test_the_loss_over_words_is_what_decoding_reads():
    model, index, examples = make()
    with torch.no_grad():
        loss = float(losses(model, index, examples, rails=False))
    table, wanted = Titles(model.tokenizer).assign(TITLES), 0.0
    for example in examples:
        sequences = [table.sequence(row).tolist() for row in example.rows]
        wanted -= float(np.dot(example.weights, score_sequences(model, list(example.prompt), sequences)))
    assert loss == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("rails", [True, False])
def test_packing_changes_neither_loss_nor_gradients(rails):
    gradients = []
    for how in ({"size": None}, {"size": 1}, {"size": 10_000}):
        model, index, examples = make()
        loss = losses(model, index, examples, rails, **how)
        loss.backward()
        weights = dict(model.model.named_parameters())
        gradients.append((float(loss.detach()), {name: one.grad.clone() for name, one in weights.items()}))
    for loss, grads in gradients[1:]:
        assert loss == pytest.approx(gradients[0][0], rel=1e-5)
        for name, gradient in grads.items():
            assert torch.allclose(gradient, gradients[0][1][name], atol=1e-4, rtol=1e-3), name


def test_a_history_is_read_once_for_all_of_its_positions():
    _, index, _ = make()
    tokenizer = checkpoints.tokenizer()
    prompts = Prompts(tokenizer)
    pasts = [TrainingExample(prompts.render(None, TITLES[:length]), [length]) for length in range(1, 9)]
    together = packed(pasts, Answers(compressed(index)), size=10_000)
    alone = packed(pasts, Answers(compressed(index)), size=None)
    assert len(together) == 1 and 2 * len(together[0]) < sum(map(len, alone))


def test_a_target_that_stands_in_the_next_past_is_read_once():
    flat = PromptTemplate("", "{query}", "{history}", "{history}\n{query}", "?", answer=">\n", line=">\n{title}")
    tokenizer = checkpoints.tokenizer()
    prompts, table = Prompts(tokenizer, flat), Titles(tokenizer).assign(TITLES)
    trie = Trie.from_flat(table.tokens, table.offsets, table.vocab_size, table.end_token)
    examples = [TrainingExample(prompts.render(None, TITLES[:past]), [past]) for past in range(1, 6)]
    (pack,) = packed(examples, Answers(compressed(LiveTrie(trie))), rails=False)
    whole = prompts.render(None, TITLES[:6])  # ends in what announces a seventh title
    ends = len(examples)  # the end of each target
    assert len(pack.ids) <= len(whole) + ends


def test_nodes_that_hardly_any_right_item_passes_are_not_read():
    _, index, examples = make()
    answers = Answers(compressed(index))
    every, some = (packed(examples, answers, least=least) for least in (0.0, 0.5))
    assert sum(map(len, some)) < sum(map(len, every))
    for example in examples:  # the first branching is always there
        assert any(node == 0 for pack in some for _, node in pack.nodes), example


def test_smoothing_spreads_over_the_children_alone():
    model, index, examples = make()
    packs = packed(examples, Answers(compressed(index)))
    with torch.no_grad():
        hidden = hidden_states(model.body, packs, model.sees)
        found = Branchings(hidden, packs, compressed(index), model.output)
        plain, smooth = (found.loss(value) for value in (0.0, 1.0))
    assert torch.isfinite(smooth) and not torch.isclose(plain, smooth)


def test_an_item_with_several_identifiers_is_right_by_each():
    trie = Trie.from_flat(np.array([5, 1, 6, 1, 7, 1]), np.array([0, 2, 4, 6]), 9, 1, owners=np.array([0, 0, 1]))
    pack = packed([TrainingExample([3], [0])], Answers(compressed(trie)))[0]
    assert pack.nodes == {(0, 0): {0: 0.5, 1: 0.5}}


def test_one_identifier_alone_decides_nothing():
    trie = Trie.from_sequences([[5, 1]], vocab_size=9, end_token=1)
    assert packed([TrainingExample([3], [0])], Answers(compressed(trie)))[0].nodes == {}


def test_a_pack_shares_what_begins_alike():
    pack = Pack()
    assert [pack.put([1, 2]), pack.put([1, 3]), pack.put([1, 2, 4])] == [1, 2, 3]
    assert (pack.ids, pack.parents, pack.depths) == ([1, 2, 3, 4], [-1, 0, 0, 1], [0, 1, 1, 2])
    assert pack.reach.tolist()[3] == [True, True, False, True] and not pack.chain


def test_contrast_compares_means_of_what_was_read():
    """Against the definition: each target behind its request, each request, and each target by itself, one by one."""
    model, index, examples = make()
    examples[1] = TrainingExample(
        examples[1].prompt, examples[0].rows, examples[0].weights
    )  # the same target twice is no wrong answer
    packs = packed(examples, Answers(compressed(index)), contrast=True, size=200)
    with torch.no_grad():
        found = contrastive_losses(hidden_states(model.body, packs, model.sees), packs, 0.5)
        table, means = Titles(model.tokenizer).assign(TITLES), []
        for example in examples:
            target = table.sequence(example.rows[0]).tolist()
            both = model.body(input_ids=torch.tensor([[*example.prompt, *target]]), use_cache=False)[0][0]
            alone = model.body(input_ids=torch.tensor([target]), use_cache=False)[0][0]
            means.append([both[: len(example.prompt)].mean(0), both[len(example.prompt) :].mean(0), alone.mean(0)])
    cosines = [
        [torch.cosine_similarity(one[side], other[2], dim=0) for other in means] for one in means for side in (1, 0)
    ]
    wanted = [0.0, 0.0]
    for place, line in enumerate(cosines):
        row = place // 2
        wrong = [value for other, value in enumerate(line) if other == row or {other, row} != {0, 1}]
        wanted[place % 2] += float(torch.logsumexp(torch.stack(wrong) / 0.5, 0) - line[row] / 0.5)
    assert [float(one) for one in found] == pytest.approx(wanted, rel=1e-3)


def test_a_text_may_be_the_answer():
    _, index, examples = make()
    [pack] = packed([TrainingExample(examples[0].prompt, [3], text=[7, 8, 2])], Answers(compressed(index)))
    assert pack.nodes == {} and [list(one) for one in pack.tokens.values()] == [[7], [8], [2]]
    assert sum(sum(one.values()) for one in pack.tokens.values()) == pytest.approx(1.0)
