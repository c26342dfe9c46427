"""What every constraint index promises. Inherit, and say how to make one."""

from __future__ import annotations

import numpy as np
import pytest

from genrail.constraints.index import Beams, ConstraintIndex, RowSequences
from genrail.errors import IdentifierError, LogitsError, SettingsError, ShapeError, StateError
from tests.constraints.oracle import Oracle, random_catalog
from tests.constraints.walk import compare_walk

RAGGED = [[1, 2, 0], [1, 0], [3, 4, 2, 0], [1, 2, 0]]  # [1] begins [1, 2]; rows 0 and 3 are equal
FIXED = [[1, 2], [1, 3], [2, 2], [1, 3]]
SEVERAL = [[1, 2], [3, 3], [1, 3], [1, 2], [1, 4], [2, 2]]  # rows 0 and 2 share one, and begin alike more than once
OWNERS = [0, 0, 1, 2, 2, 2]


class ConstraintIndexContract:
    """Promises of `ConstraintIndex`, edges by name."""

    several = True  # False: an index that does not offer `RowSequences`

    def make(self, sequences, vocab_size, end_token=None, owners=None):
        """Make an index of these sequences; `owners` says whose each one is, None: one of each row."""
        raise NotImplementedError

    @pytest.fixture
    def index_of_several(self):
        """Three rows of two, one and three sequences."""
        if not self.several:
            pytest.skip("an index of one sequence for each row")
        return self.make(SEVERAL, 5, owners=OWNERS)

    def first(self, index, logits=None, count=8, subsets=None, **options):
        """The first step of as many queries as there are rows of logits."""
        logits = np.zeros((1, index.vocab_size), np.float32) if logits is None else np.asarray(logits, np.float32)
        return index.candidates(index.start(len(logits)), logits, np.zeros((len(logits), 1)), count, subsets, **options)

    def tokens(self, found, query=0):
        return found.tokens[query, : found.count[query]].tolist()

    def test_it_is_a_constraint_index(self):
        assert isinstance(self.make(FIXED, 5), ConstraintIndex)

    @pytest.mark.parametrize("seed", range(20))
    def test_every_step_equals_the_oracle(self, seed):
        rng = np.random.default_rng(seed)
        sequences, vocab_size, end_token = random_catalog(rng, most=80, vocab_sizes=(2, 5, 200))
        index = self.make(sequences, vocab_size, end_token)
        oracle = Oracle(dict(enumerate(sequences)))
        compare_walk(index, oracle, rng, row_count=len(sequences), end_token=end_token)

    # Broken logits

    def test_a_nan_logit_counts_as_the_least_and_stays_out_of_the_denominator(self):
        index = self.make(FIXED, 5)
        found = self.first(index, [[0, np.nan, 0, np.nan, 0]])
        assert self.tokens(found) == [2, 1]
        assert found.scores[0, 0] == pytest.approx(-np.log(3)) and np.isneginf(found.scores[0, 1])
        assert found.nan_logits == 2

    @pytest.mark.parametrize("meaning", ["full_softmax", "renormalised"])
    def test_an_infinite_logit_is_refused_by_name(self, meaning):
        logits = np.zeros((3, 5), np.float32)
        logits[1, 4] = np.inf
        with pytest.raises(LogitsError, match=r"query 1, beam 0: the logit of token 4 is \+inf"):
            self.first(self.make(FIXED, 5), logits, meaning=meaning)

    def test_children_of_minus_infinity_come_last_in_token_order(self):
        index = self.make([[token] for token in range(5)], 5)
        found = self.first(index, [[-np.inf, 1, -np.inf, 2, -np.inf]])
        assert self.tokens(found) == [3, 1, 0, 2, 4]
        assert np.isneginf(found.scores[0, 2:5]).all()

    @pytest.mark.parametrize("meaning", ["full_softmax", "renormalised"])
    @pytest.mark.parametrize("value", [-np.inf, np.nan])
    def test_a_row_without_a_finite_logit_gives_the_children_in_token_order(self, value, meaning):
        found = self.first(self.make(FIXED, 5), [[value] * 5], meaning=meaning)
        assert self.tokens(found) == [1, 2] and np.isneginf(found.scores[0, :2]).all()

    def test_huge_logits_stay_finite(self):
        found = self.first(self.make(FIXED, 5), [[0, 3e38, -3e38, 0, 0]])
        assert self.tokens(found) == [1, 2] and found.scores[0, 0] == 0 and np.isfinite(found.scores[0, 1])

    def test_too_few_columns_or_rows_are_refused(self):
        index = self.make(FIXED, 5)
        with pytest.raises(LogitsError, match="5 or more"):
            self.first(index, np.zeros((1, 4)))
        with pytest.raises(LogitsError, match="2 rows of logits for 1 beams"):
            index.candidates(index.start(1), np.zeros((2, 5), np.float32), np.zeros((1, 1)), 4)

    def test_wider_logits_take_part_in_the_denominator_only(self):
        found = self.first(self.make(FIXED, 5), np.zeros((1, 8)))
        assert self.tokens(found) == [1, 2] and found.scores[0, 0] == pytest.approx(-np.log(8))

    def test_other_types_and_strides_of_logits_give_the_same(self):
        index = self.make(FIXED, 5)
        logits = np.random.default_rng(0).standard_normal((4, 10)).astype(np.float32)
        expected = self.first(index, logits[:, ::2].copy())
        for variant in (logits[:, ::2], logits[:, ::2].astype(np.float64), np.asfortranarray(logits[:, ::2])):
            assert np.array_equal(self.first(index, variant).scores, expected.scores)

    def test_rows_say_which_logits_belong_to_which_beam(self):
        index = self.make(FIXED, 5)
        logits = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
        rows = np.array([[5], [0], [5]])
        found = index.candidates(index.start(3), logits, np.zeros((3, 1)), 4, rows=rows)
        expected = self.first(index, logits[[5, 0, 5]], count=4)
        assert np.array_equal(found.scores, expected.scores) and np.array_equal(found.tokens, expected.tokens)
        with pytest.raises(LogitsError, match="query 1, beam 0 is alive"):
            index.candidates(index.start(3), logits, np.zeros((3, 1)), 4, rows=np.array([[0], [-1], [2]]))

    # Ties and batches

    def test_equal_scores_are_ordered_by_beam_then_token(self):
        index = self.make([[a, b] for a in range(4) for b in range(4)], 4)
        found = self.first(index)
        beams = index.advance(found, np.array([[2, 0]]))
        second = index.candidates(beams, np.zeros((2, 4), np.float32), np.zeros((1, 2)), 6)
        assert second.parents[0].tolist() == [0, 0, 0, 0, 1, 1] and second.tokens[0].tolist() == [0, 1, 2, 3, 0, 1]

    def test_the_batch_does_not_change_an_answer(self):
        rng = np.random.default_rng(1)
        index = self.make(rng.integers(0, 9, (200, 3)).tolist(), 9)
        logits = rng.standard_normal((16, 9)).astype(np.float32)
        together = self.first(index, logits, count=5)
        for query in rng.permutation(16):
            alone = self.first(index, logits[[query]], count=5)
            assert np.array_equal(alone.scores[0], together.scores[query])
            assert np.array_equal(alone.tokens[0], together.tokens[query])

    # Catalogues

    def test_an_identifier_that_begins_another_is_reached(self):
        index = self.make(RAGGED, 5, end_token=0)
        found = self.first(index)
        beams = index.advance(found, np.array([[0]]))
        second = index.candidates(beams, np.zeros((1, 5), np.float32), np.zeros((1, 1)), 4)
        assert self.tokens(second) == [0, 2] and second.complete[0, :2].tolist() == [True, False]
        assert index.items(second.states[0, 0]).tolist() == [1]

    def test_equal_identifiers_are_one_leaf_with_all_items_in_catalog_order(self):
        index = self.make(FIXED, 5)
        beams = index.advance(self.first(index), np.array([[0]]))
        second = index.candidates(beams, np.zeros((1, 5), np.float32), np.zeros((1, 1)), 4)
        assert self.tokens(second) == [2, 3] and index.items(second.states[0, 1]).tolist() == [1, 3]

    def test_one_item(self):
        index = self.make([[3, 1]], 5)
        assert self.tokens(self.first(index)) == [3] and len(index) == 1

    def test_an_empty_catalog_has_no_living_beam(self):
        index = self.make([], 5)
        assert len(index) == 0 and not index.start(2).alive.any()
        assert self.first(index, np.zeros((2, 5))).count.tolist() == [0, 0]

    def test_nothing_follows_a_complete_identifier(self):
        for index, end in ((self.make(FIXED, 5), None), (self.make(RAGGED, 5, end_token=0), 0)):
            beams, scores = index.start(1), np.zeros((1, 1))
            for _ in range(5):
                found = index.candidates(beams, np.zeros((1, 5), np.float32), scores, 9)
                if not found.count[0]:
                    break
                beams = index.advance(found, np.zeros((1, 1), dtype=np.int64))
            else:
                raise AssertionError(f"no end, end token {end}")

    def test_more_asked_than_exist_gives_what_exists(self):
        found = self.first(self.make(FIXED, 5), count=50)
        assert found.count[0] == 2 and found.tokens[0, 2:].tolist() == [-1] * 48

    @pytest.mark.parametrize("token", [-1, 5, 10**12])
    def test_a_token_outside_the_vocabulary_is_refused_with_its_row(self, token):
        with pytest.raises(IdentifierError, match=f"row 1 has token {token}"):
            self.make([[1, 2], [1, token]], 5)

    def test_different_lengths_without_an_end_token_are_refused(self):
        with pytest.raises(IdentifierError, match="row 2 has 1 tokens and row 0 has 2"):
            self.make([[1, 2], [1, 3], [2]], 5)

    def test_an_end_token_inside_is_refused(self):
        with pytest.raises(IdentifierError, match="row 1 is"):
            self.make([[1, 2, 0], [1, 0, 2, 0]], 5, end_token=0)

    # A row with several sequences

    def test_a_row_with_several_sequences_is_one_item(self, index_of_several):
        index = index_of_several
        assert isinstance(index, RowSequences) and index.most_sequences >= 3
        assert len(index) == 3 and index.items(index.start(1).states[0, 0]).tolist() == [0, 1, 2]
        assert self.tokens(self.first(index)) == [1, 2, 3]
        for row in range(3):
            own = [one for one, owner in zip(SEVERAL, OWNERS, strict=True) if owner == row]
            assert sorted(one.tolist() for one in index.sequences(row)) == sorted(own)

    def test_each_sequence_leads_to_its_row_and_a_shared_one_to_all(self, index_of_several):
        index = index_of_several
        beams = index.advance(self.first(index), np.array([[0, 1, 2]]))
        found = index.candidates(beams, np.zeros((3, 5), np.float32), np.zeros((1, 3)), 9)
        assert self.tokens(found) == [2, 3, 4, 2, 3] and found.complete[0, :5].all()
        assert [index.items(state).tolist() for state in found.states[0, :5]] == [[0, 2], [1], [2], [2], [0]]

    def test_children_count_a_row_once_for_each_token_that_leads_to_it(self, index_of_several):
        index = index_of_several
        root = index.start(1).states[0, 0]
        assert [part.tolist() for part in index.children(root)] == [[1, 2, 3], [3, 1, 1]]
        assert [part.tolist() for part in index.children(root, index.only([2]))] == [[1, 2], [1, 1]]

    def test_a_subset_allows_all_sequences_of_a_row_or_none(self, index_of_several):
        index = index_of_several
        mask = np.array([True, False, True])
        for subset, rows, tokens in (
            (index.only([2]), [2], [1, 2]),
            (index.only([0, 0]), [0], [1, 3]),
            (index.without([2]), [0, 1], [1, 3]),
            (index.without([0], index.subset(mask)), [2], [1, 2]),
            (~index.subset(mask), [1], [1]),
            (index.only([1]) | index.only([0]), [0, 1], [1, 3]),
            (index.subset(mask) & index.without([2]), [0], [1, 3]),
        ):
            assert len(subset) == len(rows) and bool(subset)
            assert index.items(index.start(1).states[0, 0], subset).tolist() == rows
            assert self.tokens(self.first(index, subsets=[subset])) == tokens

    def test_rows_of_one_sequence_each_are_known_as_such(self):
        if self.several:
            index = self.make(FIXED, 5, owners=range(4))
            assert index.most_sequences == 1 and [one.tolist() for one in index.sequences(2)] == [[2, 2]]

    def test_a_row_with_the_same_sequence_twice_or_none_is_refused(self):
        if self.several:
            with pytest.raises(IdentifierError, match="row 1 has the same identifier twice"):
                self.make([[1, 2], [1, 3], [2, 2], [1, 3]], 5, owners=[0, 1, 1, 1])
            with pytest.raises(IdentifierError, match="row 1 has no identifier"):
                self.make(FIXED, 5, owners=[0, 0, 2, 2])
            for owners in ([0, 0, 1], [0, 1, 0, 1], [-1, 0, 0, 1]):
                with pytest.raises(ShapeError, match="owners for 4 identifiers"):
                    self.make(FIXED, 5, owners=owners)

    def test_what_is_wrong_with_a_sequence_is_told_by_its_row(self):
        if self.several:
            with pytest.raises(IdentifierError, match="row 1 has token 9"):
                self.make([[1, 2], [1, 3], [1, 4], [1, 9]], 5, owners=[0, 0, 1, 1])
            with pytest.raises(IdentifierError, match="row 1 has 1 tokens"):
                self.make([[1, 2], [1, 3], [1]], 5, owners=[0, 0, 1])

    # Subsets

    def test_an_empty_subset_leaves_nothing(self):
        index = self.make(FIXED, 5)
        for subset in (index.only([]), index.subset(np.zeros(4, dtype=bool)), ~index.subset(np.ones(4, dtype=bool))):
            assert len(subset) == 0 and not subset
            assert self.first(index, subsets=[subset]).count[0] == 0

    def test_each_query_has_its_own_subset(self):
        index = self.make(FIXED, 5)
        found = self.first(index, np.zeros((3, 5)), subsets=[index.only([2]), None, index.without([2])])
        assert [self.tokens(found, query) for query in range(3)] == [[2], [1, 2], [1]]

    def test_a_subset_does_not_move_the_renormalised_scores(self):
        index = self.make(FIXED, 5)
        found = self.first(index, subsets=[index.only([2])], meaning="renormalised")
        assert self.tokens(found) == [2] and found.scores[0, 0] == pytest.approx(-np.log(2))

    def test_subsets_combine_as_sets(self):
        index = self.make([[i % 7, i % 5] for i in range(60)], 8)
        a, b = set(range(0, 60, 2)), set(range(0, 60, 3))
        x, y = index.subset(np.arange(60) % 2 == 0), index.only(sorted(b))
        root = index.start(1).states[0, 0]
        for subset, expected in ((x & y, a & b), (x | y, a | b), (~x, set(range(60)) - a), (~y & x, a - b)):
            assert len(subset) == len(expected) and index.items(root, subset).tolist() == sorted(expected)

    def test_counts_of_children_add_up_to_the_items(self):
        index = self.make(RAGGED, 5, end_token=0)
        root = index.start(1).states[0, 0]
        tokens, counts = index.children(root)
        assert (tokens.tolist(), counts.tolist()) == ([1, 3], [3, 1])
        assert index.children(root, index.only([1]))[1].tolist() == [1]

    def test_masks_of_another_size_and_unknown_rows_are_refused(self):
        index = self.make(FIXED, 5)
        with pytest.raises(ShapeError, match="4 catalogue rows"):
            index.subset(np.ones(5, dtype=bool))
        for act in (index.only, index.without):
            with pytest.raises(ShapeError, match="row 4"):
                act([0, 4])
            with pytest.raises(ShapeError, match="row -1"):
                act([-1])

    def test_a_subset_of_another_index_is_refused(self):
        index, other = self.make(FIXED, 5), self.make(FIXED, 5)
        with pytest.raises(StateError):
            self.first(index, subsets=[other.only([1])])
        with pytest.raises(StateError):
            index.only([1]) & other.only([1])
        with pytest.raises(ShapeError, match="one \\(or None\\) per query"):
            self.first(index, subsets=[None, None])

    # States and settings

    def test_dead_beams_are_ignored_whatever_their_score(self):
        index = self.make(FIXED, 5)
        beams = index.advance(self.first(index), np.array([[-1, 1, -1]]))
        logits = np.full((3, 5), np.inf, np.float32)
        logits[1] = 0
        found = index.candidates(beams, logits, np.array([[9.0, 0.0, 9.0]]), 4)
        assert self.tokens(found) == [2] and found.parents[0, 0] == 1

    def test_a_state_of_another_index_is_refused(self):
        large, small = self.make([[i, i] for i in range(100)], 100), self.make([[1, 1]], 100)
        with pytest.raises(StateError):
            small.candidates(large.start(1), np.zeros((1, 100), np.float32), np.zeros((1, 1)), 4)
        with pytest.raises(StateError):
            small.items(large.start(1).states[0, 0])
        with pytest.raises(StateError):
            small.children(np.array([0, 0]))

    def test_states_with_the_wrong_depth_or_shape_are_refused(self):
        index = self.make(FIXED, 5)
        beams = index.start(1)
        with pytest.raises(StateError):
            index.candidates(Beams(beams.states[..., :1], beams.alive, 0), np.zeros((1, 5)), np.zeros((1, 1)), 4)
        with pytest.raises(StateError):
            index.candidates(Beams(beams.states, beams.alive, -1), np.zeros((1, 5)), np.zeros((1, 1)), 4)
        with pytest.raises(ShapeError):
            index.candidates(beams, np.zeros((1, 5)), np.zeros((1, 2)), 4)

    def test_picks_that_are_no_candidates_are_refused(self):
        index = self.make(FIXED, 5)
        found = self.first(index, count=8)
        for picks in ([[2]], [[-2]], [[99]]):
            with pytest.raises(StateError, match="has 2 candidates"):
                index.advance(found, np.array(picks))
        with pytest.raises(ShapeError):
            index.advance(found, np.array([[0], [0]]))

    def test_settings_out_of_range_are_refused(self):
        with pytest.raises(SettingsError, match="count is 0"):
            self.first(self.make(FIXED, 5), count=0)
        with pytest.raises(SettingsError, match="meaning is 'softmax'"):
            self.first(self.make(FIXED, 5), meaning="softmax")
