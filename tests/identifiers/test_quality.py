"""The report counts what a plain count gives, and ranks identifiers that know something above random ones."""

import csv
import gzip
import itertools
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrail.errors import IdentifierError, SettingsError, ShapeError
from genrail.identifiers import IdentifierTable, SemanticIds
from genrail.identifiers.quality import adjacent_pairs, measure

BEAUTY = Path(__file__).parents[2] / "../shared/data/amazon_beauty"
matrices = st.integers(2, 4).flatmap(
    lambda length: st.lists(st.lists(st.integers(0, 3), min_size=length, max_size=length), min_size=2, max_size=15)
)


def bundles(rows=300, dimensions=8, clusters=6):
    random = np.random.default_rng(0)
    bundle = random.integers(clusters, size=rows)
    vectors = random.normal(size=(clusters, dimensions))[bundle] + 0.1 * random.normal(size=(rows, dimensions))
    return vectors.astype(np.float32), bundle


def share(pairs, alike):
    pairs = list(pairs)
    return sum(map(alike, pairs)) / len(pairs) if pairs else None


@settings(deadline=None)
@given(matrices, st.data())
def test_every_figure_agrees_with_a_plain_count(rows, data):
    labels = data.draw(st.lists(st.sampled_from(["a", "b", None, ""]), min_size=len(rows), max_size=len(rows)))
    bought = data.draw(st.lists(st.tuples(*[st.integers(0, len(rows) - 1)] * 2), max_size=10))
    report = measure(IdentifierTable.from_matrix(rows, 4), attributes={"brand": labels}, copurchased=bought)
    everyone = list(itertools.combinations(range(len(rows)), 2))
    for depth, found in enumerate(report.depths, start=1):
        prefix = [tuple(row[:depth]) for row in rows]
        counts = Counter(prefix)
        together = [(one, two) for one, two in everyone if prefix[one] == prefix[two]]
        assert (found.prefixes, found.largest) == (len(counts), max(counts.values()))
        assert found.entropy == pytest.approx(-sum(n / len(rows) * math.log2(n / len(rows)) for n in counts.values()))
        assert found.chance == pytest.approx(len(together) / len(everyone))
        different = [pair for pair in bought if pair[0] != pair[1]]
        assert found.copurchased == share(different, lambda pair, prefix=prefix: prefix[pair[0]] == prefix[pair[1]])
        known = [pair for pair in together if labels[pair[0]] and labels[pair[1]]]
        expected = share(known, lambda pair: labels[pair[0]] == labels[pair[1]])
        assert found.purity["brand"] == (None if expected is None else pytest.approx(expected))
    for level, found in enumerate(report.levels):
        counts = Counter(row[level] for row in rows)
        entropy = -sum(n / len(rows) * math.log2(n / len(rows)) for n in counts.values())
        assert (found.used, found.use) == (len(counts), len(counts) / 4)
        assert found.perplexity == pytest.approx(2**entropy)
        assert found.largest_share == pytest.approx(max(counts.values()) / len(rows))
    groups = Counter(tuple(row[:-1]) for row in rows)
    assert report.colliding == sum(n for n in groups.values() if n > 1)
    assert report.largest_group == max(groups.values())
    assert report.identifiers == len({tuple(row) for row in rows})


def test_text_neighbours_agree_with_an_exhaustive_search():
    vectors, _ = bundles(rows=60)
    table = SemanticIds.fit(vectors, levels=2, codes=4).assign(vectors)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -np.inf)
    near = np.argsort(-scores, axis=1)[:, :5]
    found = measure(table, vectors=vectors, neighbours=5).depths
    for depth, quality in enumerate(found, start=1):
        prefix = table.matrix()[:, :depth]
        assert quality.neighbours == pytest.approx((prefix[:, None] == prefix[near]).all(axis=2).mean())


def test_identifiers_that_know_the_texts_stand_above_random_ones():
    vectors, bundle = bundles()
    good = SemanticIds.fit(vectors, levels=2, codes=6).assign(vectors)
    order = np.random.default_rng(1).permutation(len(vectors))
    shuffled = IdentifierTable.from_matrix(good.matrix()[order], good.vocab_size)
    brands = [f"brand {number}" for number in bundle]
    same = np.array([pair for pair in itertools.pairwise(np.argsort(bundle, kind="stable"))])
    reports = [
        measure(table, vectors=vectors, attributes={"brand": brands}, copurchased=same) for table in (good, shuffled)
    ]
    for known, random in zip(reports[0].depths, reports[1].depths, strict=True):
        assert known.chance == pytest.approx(random.chance)
        assert known.neighbours > 2 * random.neighbours
        assert known.copurchased > 2 * random.copurchased
        assert known.purity["brand"] > 2 * random.purity["brand"]
    first = reports[1].depths[0]
    assert first.neighbours == pytest.approx(first.chance, abs=0.05)
    assert first.purity["brand"] == pytest.approx(reports[1].purity_by_chance["brand"], abs=0.05)


def test_sampled_neighbours_come_near_all_and_follow_the_seed():
    vectors, _ = bundles(rows=600)
    table = SemanticIds.fit(vectors, levels=1, codes=8).assign(vectors)
    everything = measure(table, vectors=vectors).depths[0].neighbours
    sampled = [measure(table, vectors=vectors, sample=200, seed=seed).depths[0].neighbours for seed in (0, 0, 1)]
    assert sampled[0] == sampled[1] != sampled[2]
    assert sampled[0] == pytest.approx(everything, abs=0.05)


def test_only_live_rows_count():
    rows = [[0, 0, 0], [0, 0, 1], [1, 1, 0], [2, 2, 0]]
    live = np.array([True, False, True, True])
    table = IdentifierTable.from_matrix(rows, 4)
    vectors = np.eye(4, dtype=np.float32)
    report = measure(
        table, live=live, vectors=vectors, attributes={"a": ["x", "y", "x", "z"]}, copurchased=[[0, 1], [0, 2], [2, 3]]
    )
    alone = measure(
        IdentifierTable.from_matrix(np.array(rows)[live], 4),
        vectors=vectors[live],
        attributes={"a": ["x", "x", "z"]},
        copurchased=[[0, 1], [1, 2]],
    )
    assert report == alone
    assert report.colliding == 0


def test_an_even_use_of_codes_has_full_perplexity():
    codes = np.column_stack([np.arange(64) % 16, np.zeros(64, int), np.zeros(64, int)])
    report = measure(IdentifierTable.from_matrix(codes, 16))
    assert report.levels[0].perplexity == pytest.approx(16)
    assert report.levels[1].perplexity == 1
    assert report.levels[1].largest_share == 1


def test_titles_are_measured_by_their_first_tokens():
    table = IdentifierTable.from_sequences([[5, 6, 0], [5, 7, 8, 0], [5, 6, 0], [9, 0]], 10, end_token=0)
    report = measure(table)
    assert [depth.prefixes for depth in report.depths] == [2, 3, 3, 3]
    assert report.identifiers == 3
    assert report.colliding == 2


@pytest.mark.parametrize(("levels", "expected"), [(None, 3), (1, 1), (4, 4)])
def test_levels_to_look_at(levels, expected):
    table = IdentifierTable.from_matrix(np.arange(20).reshape(5, 4))
    assert len(measure(table, levels=levels).levels) == expected


def test_size_of_the_codebooks_when_the_last_code_is_wider():
    table = IdentifierTable.from_matrix([[0, 9], [1, 0]], 10)
    assert measure(table, codes=2).levels[0].use == 1
    assert measure(table).levels[0].use == 0.2


def test_one_item():
    report = measure(
        IdentifierTable.from_matrix([[0, 0, 0, 0]], 4), vectors=np.ones((1, 2)), attributes={"a": ["x"]}, copurchased=[]
    )
    assert report.items == report.identifiers == 1
    assert report.colliding == 0
    assert (report.depths[0].chance, report.depths[0].neighbours, report.depths[0].copurchased) == (None, None, None)
    assert report.purity_by_chance == {"a": None}


def test_no_items():
    report = measure(IdentifierTable.from_matrix(np.empty((0, 4), int), 4))
    assert (report.items, report.identifiers, report.collision_rate, report.largest_group) == (0, 0, 0, 0)
    assert report.levels[0].used == 0
    assert json.dumps(report.to_dict())
    assert report.table() is not None


def test_all_items_equal():
    table = IdentifierTable.from_matrix([[1, 1, number] for number in range(9)], 9)
    report = measure(table, vectors=np.ones((9, 3)))
    assert report.collision_rate == 1
    assert report.depths[1].chance == report.depths[1].neighbours == 1


def test_the_report_is_plain_values_and_prints():
    vectors, bundle = bundles()
    table = SemanticIds.fit(vectors, levels=2, codes=8).assign(vectors)
    report = measure(table, vectors=vectors, attributes={"brand": bundle.tolist()}, copurchased=[[0, 1]])
    assert json.loads(json.dumps(report.to_dict()))["depths"][1]["depth"] == 2
    rows = report.table()
    assert [row["level"] for row in rows] == ["1", "2"]
    assert {"codes used", "perplexity", "text neighbours together", "bought together", "same brand"} <= rows[0].keys()


def test_what_does_not_fit_is_refused():
    table = IdentifierTable.from_matrix([[0, 0], [1, 0]], 4)
    with pytest.raises(ShapeError, match="2 identifiers but 3 vectors"):
        measure(table, vectors=np.ones((3, 2)))
    with pytest.raises(IdentifierError, match="row 1 holds NaN"):
        measure(table, vectors=[[1.0], [np.nan]])
    with pytest.raises(ShapeError, match="'brand' has 1 values"):
        measure(table, attributes={"brand": ["a"]})
    with pytest.raises(ShapeError, match="mask"):
        measure(table, live=[0, 1])
    with pytest.raises(ShapeError, match=r"rows 0\.\.2"):
        measure(table, copurchased=[[0, 2]])
    with pytest.raises(SettingsError, match="neighbours is 0"):
        measure(table, neighbours=0)
    with pytest.raises(SettingsError, match="levels is 0"):
        measure(table, levels=0)


def test_adjacent_pairs_never_cross_users():
    assert adjacent_pairs([0, 2, 2, 5], [1, 2, 3, 4, 5]).tolist() == [[1, 2], [3, 4], [4, 5]]
    assert adjacent_pairs([0], []).shape == (0, 2)


def test_on_beauty_semantic_ids_stand_above_random_ones():
    if not BEAUTY.exists():
        pytest.skip("../shared/data is absent: real items are not measured")
    vectors = np.load(BEAUTY / "minilm_f16.npz")["e"][:3000].astype(np.float32)
    with gzip.open(BEAUTY / "items.csv.gz", "rt", encoding="utf-8") as file:
        category = [row["attributes"].split("|")[-1] for row in itertools.islice(csv.DictReader(file), 3000)]
    good = SemanticIds.fit(vectors, levels=2, codes=64).assign(vectors)
    random = IdentifierTable.from_matrix(np.random.default_rng(0).integers(64, size=(3000, 3)), 64)
    known, dealt = (
        measure(table, vectors=vectors, attributes={"category": category}, sample=500) for table in (good, random)
    )
    assert [level.use for level in known.levels] == [1, 1]
    assert known.depths[0].neighbours > 0.5 > 10 * dealt.depths[0].neighbours
    assert known.depths[0].purity["category"] > 0.3 > 10 * dealt.depths[0].purity["category"]
