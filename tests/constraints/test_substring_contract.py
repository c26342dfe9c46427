"""The contract of constraint indexes, as far as it speaks of n-grams, and the edges of the substring index by name."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest

from genrail.constraints.substring import SubstringIndex
from genrail.errors import IdentifierError, SettingsError, ShapeError, StateError
from tests.constraints.ngram_oracle import NgramOracle, compare_ngrams
from tests.constraints.oracle import random_catalog
from tests.constraints.walk import compare_walk
from tests.contracts.constraint_index import FIXED, RAGGED, ConstraintIndexContract


class SubstringContract(ConstraintIndexContract):
    """Where the contract speaks of whole identifiers, n-grams begin anywhere: those promises are said anew here."""

    several = False  # a document is one sequence

    @pytest.mark.parametrize("seed", range(20))
    def test_every_step_equals_the_oracle(self, seed):
        rng = np.random.default_rng(seed)
        sequences, vocab_size, _ = random_catalog(rng, most=80, vocab_sizes=(2, 5, 200))
        index = self.make(sequences, vocab_size)
        compare_walk(index, NgramOracle(dict(enumerate(sequences))), rng, row_count=len(sequences), end_token=None)

    def test_a_nan_logit_counts_as_the_least_and_stays_out_of_the_denominator(self):
        found = self.first(self.make([[1], [2]], 5), [[0, np.nan, 0, np.nan, 0]])
        assert self.tokens(found) == [2, 1]
        assert found.scores[0, 0] == pytest.approx(-np.log(3)) and np.isneginf(found.scores[0, 1])
        assert found.nan_logits == 2

    @pytest.mark.parametrize("meaning", ["full_softmax", "renormalised"])
    @pytest.mark.parametrize("value", [-np.inf, np.nan])
    def test_a_row_without_a_finite_logit_gives_the_children_in_token_order(self, value, meaning):
        found = self.first(self.make(FIXED, 5), [[value] * 5], meaning=meaning)
        assert self.tokens(found) == [1, 2, 3] and np.isneginf(found.scores[0, :3]).all()

    def test_huge_logits_stay_finite(self):
        found = self.first(self.make([[1], [2]], 5), [[0, 3e38, -3e38, 0, 0]])
        assert self.tokens(found) == [1, 2] and found.scores[0, 0] == 0 and np.isfinite(found.scores[0, 1])

    def test_wider_logits_take_part_in_the_denominator_only(self):
        found = self.first(self.make(FIXED, 5), np.zeros((1, 8)))
        assert self.tokens(found) == [1, 2, 3] and found.scores[0, 0] == pytest.approx(-np.log(8))

    def test_an_identifier_that_begins_another_is_reached(self):
        index = self.make([[1, 2], [1]], 5)
        assert index.items(index.find([1])).tolist() == [0, 1]
        assert index.items(index.find([1, 2])).tolist() == [0]

    def test_equal_identifiers_are_one_leaf_with_all_items_in_catalog_order(self):
        index = self.make(FIXED, 5)
        assert index.items(index.find([1, 3])).tolist() == [1, 3]

    def test_one_item(self):
        index = self.make([[3, 1]], 5)
        assert self.tokens(self.first(index)) == [1, 3] and len(index) == 1

    def test_more_asked_than_exist_gives_what_exists(self):
        found = self.first(self.make(FIXED, 5), count=50)
        assert found.count[0] == 3 and found.tokens[0, 3:].tolist() == [-1] * 47

    def test_different_lengths_without_an_end_token_are_refused(self):
        assert len(self.make([[1, 2], [1, 3], [2]], 5)) == 3  # documents have any length

    def test_an_end_token_inside_is_refused(self):
        """No token has a meaning: a text that holds the model's control tokens is a text."""
        index = self.make([[1, 2, 0], [1, 0, 2, 0]], 5, end_token=0)
        assert index.count(index.find([0])) == 3 and index.items(index.find([0, 2])).tolist() == [1]

    def test_each_query_has_its_own_subset(self):
        index = self.make(FIXED, 5)
        found = self.first(index, np.zeros((3, 5)), subsets=[index.only([2]), None, index.without([1, 3])])
        assert [self.tokens(found, query) for query in range(3)] == [[2], [1, 2, 3], [1, 2]]

    def test_a_subset_does_not_move_the_renormalised_scores(self):
        index = self.make(FIXED, 5)
        found = self.first(index, subsets=[index.only([2])], meaning="renormalised")
        assert self.tokens(found) == [2] and found.scores[0, 0] == pytest.approx(-np.log(3))

    def test_picks_that_are_no_candidates_are_refused(self):
        found = self.first(index := self.make([[1], [2]], 5))
        for picks in ([[2]], [[-2]], [[99]]):
            with pytest.raises(StateError, match="has 2 candidates"):
                index.advance(found, np.array(picks))
        with pytest.raises(ShapeError):
            index.advance(found, np.array([[0], [0]]))

    def test_counts_of_children_add_up_to_the_items(self):
        """Counts are of occurrences: those of the root add up to the tokens."""
        index = self.make(RAGGED, 5, end_token=0)
        root = index.start(1).states[0, 0]
        tokens, counts = index.children(root)
        assert (tokens.tolist(), counts.tolist()) == ([0, 1, 2, 3, 4], [4, 3, 3, 1, 1])
        assert index.children(root, index.only([1]))[1].tolist() == [1, 1]


class TestSubstringIndex(SubstringContract):
    def make(self, sequences, vocab_size, end_token=None):
        return SubstringIndex.from_sequences(sequences, vocab_size)


class TestSubstringIndexWithListsForEveryToken(SubstringContract):
    def make(self, sequences, vocab_size, end_token=None):
        return SubstringIndex.from_sequences(sequences, vocab_size, frequent=1)


class TestSubstringIndexInTwoParts(SubstringContract):
    """The first half is the old segment; row 0 is there too, updated, so that it lies in both."""

    def make(self, sequences, vocab_size, end_token=None):
        SubstringIndex.from_sequences(sequences, vocab_size)  # refuses what is wrong, with the caller's rows
        half = len(sequences) // 2
        index = SubstringIndex.from_sequences(sequences[:half], vocab_size, frequent=2).add(sequences[half:])
        return index.update([0], [sequences[0]]) if half else index


class TestSubstringIndexFromFile(SubstringContract):
    def make(self, sequences, vocab_size, end_token=None):
        with tempfile.TemporaryDirectory() as folder:  # the mapped files outlive their names
            SubstringIndex.from_sequences(sequences, vocab_size, frequent=2).save(folder)
            return SubstringIndex.load(folder, mmap=True)


def step(index, beams, subsets=None, count=50):
    logits = np.zeros((beams.alive.size, index.vocab_size), dtype=np.float32)
    return index.candidates(beams, logits, np.zeros(beams.alive.shape), count, subsets)


def ngrams(index, length, subset=None):
    """Every n-gram of a length that the index lets a decoder write."""
    beams, written = index.start(1), [()]
    for _ in range(length):
        found = step(index, beams, [subset])
        written = [
            (*written[parent], token)
            for parent, token in zip(
                *(x[0, : found.count[0]].tolist() for x in (found.parents, found.tokens)), strict=True
            )
        ]
        beams = index.advance(found, np.arange(max(1, len(written)))[None] if written else np.array([[-1]]))
    return sorted(written)


def test_no_ngram_crosses_a_border():
    texts = [[1, 2], [3], [], [1, 3, 1]]
    index = SubstringIndex.from_sequences(texts, 5)
    assert ngrams(index, 2) == [(1, 2), (1, 3), (3, 1)]
    assert ngrams(index, 3) == [(1, 3, 1)] and ngrams(index, 4) == []
    for crossing in ([2, 3], [3, 1, 3], [2, 1]):
        assert index.count(index.find(crossing)) == 0


def test_a_token_follows_only_while_an_allowed_document_holds_the_longer_ngram():
    index = SubstringIndex.from_sequences([[1, 2, 3], [1, 2, 4], [2, 5]], 8)
    assert ngrams(index, 3, index.only([1])) == [(1, 2, 4)]
    assert ngrams(index, 2, index.without([0])) == [(1, 2), (2, 4), (2, 5)]


def test_a_filter_that_leaves_one_document_lets_only_its_ngrams_through():
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, 4, size=30).tolist() for _ in range(300)]
    index = SubstringIndex.from_sequences(texts, 4)
    mask = np.arange(300) == 117
    expected = sorted({tuple(texts[117][at : at + 4]) for at in range(27)})
    for one in (index.only([117]), index.subset(mask), index.without(np.flatnonzero(~mask))):
        assert len(one) == 1 and ngrams(index, 4, one) == expected


def test_documents_without_a_token_are_items_that_nothing_leads_to():
    index = SubstringIndex.from_sequences([[], [1], []], 3)
    assert len(index) == 3 and index.items(index.start(1).states[0, 0]).tolist() == [0, 1, 2]
    assert index.sequence(0).tolist() == [] and index.items(index.find([1])).tolist() == [1]
    empty = SubstringIndex.from_sequences([[], []], 3)
    assert len(empty) == 2 and not empty.start(1).alive.any() and not empty.add([[]]).start(1).alive.any()
    assert empty.add([[2]]).start(1).alive.all()


def test_documents_of_one_token_are_complete_at_once():
    found = step(index := SubstringIndex.from_sequences([[1], [2], [1]], 3), index.start(1))
    assert found.complete[0, :2].all() and index.locate(index.find([1])).rows.tolist() == [0, 2]


@pytest.mark.parametrize("length", [1, 7, 300])
def test_documents_that_are_all_equal(length):
    text = np.random.default_rng(0).integers(0, 3, size=length).tolist()
    index = SubstringIndex.from_sequences([text] * 40, 3)
    state = index.find(text)
    assert index.count(state) == 40 and index.items(state).tolist() == list(range(40))
    assert index.items(state, index.only([7])).tolist() == [7]
    assert len(index.remove([3]).items(state)) == 39


def test_a_document_of_a_million_tokens():
    rng = np.random.default_rng(0)
    long = rng.integers(0, 500, size=1_000_000)
    tokens, offsets = np.concatenate([long, [7], np.full(100_000, 3)]), np.array([0, 1_000_000, 1_000_001, 1_100_001])
    index = SubstringIndex.from_flat(tokens, offsets, 500).remove([1])
    at = 765_432
    where = index.locate(index.find(long[at : at + 5]))
    assert (where.rows.tolist(), where.offsets.tolist()) == ([0], [at])
    assert index.count(index.find([3] * 2_000), index.only([2])) == 100_000 - 1_999
    assert np.array_equal(index.sequence(0), long)


@pytest.mark.parametrize("vocab_size", [2**17, 2**31 - 1])
def test_large_vocabularies(vocab_size):
    rng = np.random.default_rng(0)
    texts = [rng.integers(vocab_size - 3, vocab_size, size=9).tolist() for _ in range(20)]
    index = SubstringIndex.from_sequences(texts, vocab_size)
    compare_ngrams(index, NgramOracle({row: tuple(text) for row, text in enumerate(texts)}), rng)


@pytest.mark.slow  # compiles every kernel for another width of codes
def test_more_different_tokens_than_16_bits_hold():
    tokens = np.arange(70_000)
    index = SubstringIndex.from_flat(tokens, np.arange(0, 70_001, 10), 70_000, frequent=1).add([[69_999, 0]])
    assert index.items(index.find([69_998, 69_999])).tolist() == [6_999]
    assert index.children(index.find([69_999]))[0].tolist() == [0]
    found = step(index, index.advance(step(index, index.start(1), count=3), np.array([[0, 2]])), count=5)
    assert found.tokens[0, : found.count[0]].tolist() == [1, 3]


def test_longest_ends_every_ngram():
    index = SubstringIndex.from_sequences([[1, 2, 3, 4], [2, 3]], 5, longest=2)
    beams = index.start(1)
    first = step(index, beams)
    assert first.complete[0, :4].tolist() == [False, False, False, True]  # 4 ends its document
    second = step(index, index.advance(first, np.array([[0, 1]])))
    assert second.complete[0, :2].all() and index.children(second.states[0, 0])[0].tolist() == []
    assert step(index, index.advance(second, np.array([[0, 1]]))).count[0] == 0
    assert [
        tail.tolist() for tail in index.tails(np.array([index.find([1]), index.find([2]), index.find([1, 2])]))
    ] == [
        [2],
        [],
        [],
    ]


def test_beams_can_start_behind_a_title_token():
    index = SubstringIndex.from_sequences([[9, 1, 2], [9, 3, 1, 4]], 10)
    beams = index.start_behind([9], 2)
    found = step(index, beams, [None, index.only([1])])
    assert [found.tokens[q, : found.count[q]].tolist() for q in range(2)] == [[1, 3], [3]]
    assert not index.start_behind([8], 1).alive.any()


def test_a_state_does_not_depend_on_the_subset():
    index = SubstringIndex.from_sequences([[1, 2], [1, 3]], 5).add([[1, 2, 4]])
    beams = index.start_behind([1], 2)
    found = step(index, beams, [None, index.only([0])])
    assert found.states[0, 0].tolist() == found.states[1, 0].tolist() == index.find([1, 2]).tolist()


def test_updates_and_removals_stay_until_they_are_undone():
    index = SubstringIndex.from_sequences([[1, 2], [3]], 5)
    second = index.update([0], [[4, 4]]).remove([1])
    assert len(index) == 2 and index.sequence(0).tolist() == [1, 2]  # the snapshot before is untouched
    assert len(second) == 1 and second.sequence(0).tolist() == [4, 4] and second.row_count == 2
    third = second.update([1], [[2]])
    assert third.items(third.start(1).states[0, 0]).tolist() == [0, 1]
    with pytest.raises(ShapeError, match="row 1 is not live"):
        second.sequence(1)
    merged = second.compact()
    assert merged.token_count == 2 and merged.old.text.tolist() == [1, 1, 0] and merged.row_count == 2


def test_a_compacted_index_equals_one_built_anew():
    texts = [[1, 2, 1], [2], [1, 2], []]
    index = SubstringIndex.from_sequences([[4], [2], [1, 2]], 5, frequent=1).add([[]]).update([0], [texts[0]]).compact()
    anew = SubstringIndex.from_sequences(texts, 5, frequent=1)
    for name, array in anew.old.arrays.items():
        assert np.array_equal(array, index.old.arrays[name]), name


def test_what_does_not_fit_is_refused():
    index = SubstringIndex.from_sequences([[1, 2], [3]], 5)
    with pytest.raises(ShapeError, match="offsets must ascend"):
        SubstringIndex.from_flat([1, 2], [0, 2, 1, 2], 5)
    with pytest.raises(ShapeError, match="offsets must ascend"):
        SubstringIndex.from_flat([1, 2], [0, 1], 5)
    with pytest.raises(IdentifierError, match="row 1 has token 9"):
        index.add([[1], [9]])
    with pytest.raises(ShapeError, match="1 rows and 2 sequences"):
        index.update([0], [[1], [2]])
    with pytest.raises(ShapeError, match="row 2 is not in the index"):
        index.remove([2])
    with pytest.raises(SettingsError, match="longest is 0"):
        SubstringIndex.from_sequences([[1]], 5, longest=0)
    with pytest.raises(SettingsError, match="vocab_size is 0"):
        SubstringIndex.from_sequences([], 0)


@pytest.mark.parametrize(
    "state", [[0, 2, 0, 0, 1], [0, 1, 0, 0, 9], [2, 1, 0, 0, 1], [0, 99, 0, 0, 1], [0, 3, 0, 0, -1]]
)
def test_ranges_that_are_no_ngram_are_refused_before_they_are_read(state):
    index = SubstringIndex.from_sequences([[1, 2], [3]], 5)
    with pytest.raises(StateError):
        index.children(np.array(state))
