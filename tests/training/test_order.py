"""Losses by an order of candidates are those of their definitions, computed one sequence at a time."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from genrail.constraints.compressed import compressed
from genrail.training.order import order_loss
from genrail.training.packing import Answers, TrainingExample, packed
from genrail.training.rails import Branchings, Candidates, hidden_states
from tests.training.test_packing import make

WEIGHTS = [0.5, 0.3, 0.15, 0.05]


def decisions(model, trie, prompt, row):
    """Give the edges on the way to an item, and the log-probability of each, from plain readings."""
    identifier = Answers(trie).of(row)[0]
    tokens, edges, found = trie.sequence(identifier).tolist(), [], []
    for node, edge in Answers(trie).path(identifier):
        ids = torch.tensor([[*prompt, *tokens[: int(trie.depth[node])]]])
        first, last = int(trie.first_edge[node]), int(trie.first_edge[node + 1])
        logits = model.model(input_ids=ids).logits[0, -1]
        children = logits[torch.from_numpy(trie.edge_token[first:last])]
        edges.append(edge)
        found.append(torch.log_softmax(children, dim=0)[edge - first])
    return edges, torch.stack(found)


def by_definition(kind, model, trie, examples, margin):
    total = torch.zeros(())
    for example in examples:
        known = [decisions(model, trie, example.prompt, row) for row in example.rows]
        whole = torch.stack([steps.sum() for _, steps in known])
        if kind == "listwise":
            total = total - (torch.tensor(example.weights) * torch.log_softmax(whole, dim=0)).sum()
            continue
        terms = []
        for one, other in itertools.permutations(range(len(known)), 2):
            if example.weights[one] <= example.weights[other]:
                continue
            if kind == "pairwise":
                terms.append((margin - (whole[one] - whole[other])).clamp(min=0))
                continue
            (edges, steps), (others, their) = known[one], known[other]
            longest = max(len(edges), len(others))
            teacher = math.log(example.weights[one] / example.weights[other])
            for length in range(1, longest + 1):
                if edges[:length] != others[:length]:
                    apart = steps[:length].sum() - their[:length].sum()
                    terms.append((apart - teacher * math.log(1 + length) / math.log(1 + longest)) ** 2)
        total = total + torch.stack(terms).mean()
    return total


@pytest.mark.parametrize("kind", ["pairwise", "listwise", "prefix-margin"])
def test_loss_and_gradients_are_those_of_the_definition(kind):
    model, index, examples = make()
    trie = compressed(index)
    examples = [
        TrainingExample(one.prompt, [row, row + 1, row + 9, 30], WEIGHTS) for row, one in enumerate(examples[:3])
    ]
    packs = packed(examples, Answers(trie), size=200, compare=True)
    found = Branchings(hidden_states(model.body, packs, model.sees), packs, trie, model.output).candidates()
    losses, gradients = [], []
    for loss in (order_loss(kind, found, margin=2.0), by_definition(kind, model, trie, examples, 2.0)):
        model.model.zero_grad()
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append([one.grad.clone() for one in model.model.parameters()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and losses[0] > 0
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-4, rtol=2e-3)


def candidates(prefixes, edges, groups, weights, grad=False):
    return Candidates(torch.tensor(prefixes, requires_grad=grad), np.array(edges), np.array(groups), np.array(weights))


@pytest.mark.parametrize("kind", ["pairwise", "listwise", "prefix-margin"])
def test_a_request_with_one_item_has_no_order(kind):
    loss = order_loss(kind, candidates([[-1.0], [-2.0]], [[0], [1]], [0, 1], [1.0, 1.0], grad=True))
    loss.backward()
    assert float(loss.detach()) == 0.0


def test_the_right_order_with_room_between_costs_nothing_pairwise():
    apart = candidates([[-1.0], [-4.0], [-9.0]], [[0], [1], [2]], [0, 0, 0], [0.7, 0.3, 0.0])
    assert float(order_loss("pairwise", apart, margin=1.0)) == 0.0
    assert float(order_loss("pairwise", apart, margin=4.0)) == pytest.approx(1.0 / 3)  # one of three pairs, by 1


def test_a_teacher_that_gives_nothing_has_no_margin():
    unknown = candidates([[-1.0], [-4.0]], [[0], [1]], [0, 0], [1.0, 0.0])
    assert float(order_loss("prefix-margin", unknown)) == 0.0
    assert math.isfinite(float(order_loss("listwise", unknown)))


def test_common_beginnings_have_no_margin():
    same = candidates([[-1.0, -3.0], [-1.0, -2.0]], [[0, 5], [0, 6]], [0, 0], [0.5, 0.5 * math.exp(-1)])
    # The pair parts at the second branching only: margin -1 there, where the teacher wants the whole of 1.
    assert float(order_loss("prefix-margin", same)) == pytest.approx(4.0)
