"""The contract of every finder: built by its recipe, asked, grown, saved and loaded, on small random shops."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from genrail.catalog import Catalog, Interactions
from genrail.errors import StorageError
from genrail.finding import (
    Added,
    Change,
    Data,
    Edition,
    Finder,
    FindOptions,
    Gate,
    Recipe,
    answer_each,
    open_finder,
    raised,
    save_finder,
)
from genrail.types import Query

COLOURS = ("red", "blue", "green", "black", "weiß", "sea-green")
THINGS = ("boot", "sandal", "wool hat", "trail shoe", "lace", "pair of running socks", "Führer durch die Berge")
QUERIES = ("red boot", "trail shoe", "woo", "sandle", '"wool hat"', "nothing like it", "the", "!!!", "s3", "KB-1003")


def quiet(stage: str, done: int, total: int) -> None:
    """Hear nothing."""


def item(number: int, random: np.random.Generator) -> dict:
    return {
        "id": f"s{number}",
        "title": f"{random.choice(COLOURS)} {random.choice(THINGS)}",
        "text": " ".join(random.choice(COLOURS + THINGS, size=random.integers(0, 6))),
        "model": f"KB-{1000 + number}",
        "price": int(random.integers(1, 100)),
    }


def random_shop(seed: int, items: int = 18) -> Catalog:
    """A small shop with repeated titles, sometimes with removed rows."""
    random = np.random.default_rng(seed)
    catalog = Catalog.from_items([item(number, random) for number in range(items)])
    return catalog.remove([f"s{items - 1}"]) if seed % 3 == 0 and items > 4 else catalog


def random_pasts(catalog: Catalog, seed: int, users: int = 24) -> Interactions:
    """Shoppers with one to six events."""
    random = np.random.default_rng(seed)
    return Interactions.from_sequences(
        {
            f"u{user}": [f"s{row}" for row in random.integers(0, len(catalog), size=1 + user % 6)]
            for user in range(users)
        }
    )


def random_queries(catalog: Catalog, seed: int, count: int = 12) -> list[Query]:
    """Words, histories, both; filters, exclusions, and whether what was seen may come out."""
    random = np.random.default_rng(seed)
    ids = [item_id for item_id, live in zip(catalog.item_ids, catalog.live, strict=True) if live]
    filters = (
        None,
        None,
        "price < 50",
        "price >= 30 AND NOT title = 'red boot'",
        "price < 0",
        "price = 7 OR price > 60",
    )
    found = []
    for number in range(count):
        past = random.choice(ids, size=random.integers(1, 5)).tolist() if number % 3 else []
        words = str(random.choice(QUERIES)) if number % 3 != 1 else None
        found.append(
            Query(
                words,
                history=past,
                where=filters[int(random.integers(len(filters)))],
                exclude=random.choice(ids, size=random.integers(0, 4)).tolist(),
                exclude_seen=bool(random.integers(2)),
            )
        )
    return found


def changed(finder: Finder, before: Catalog, after: Catalog) -> Finder:
    """Grow a finder from one catalogue to a later one."""
    rows = range(len(before), len(after))
    gone = np.flatnonzero(~after.live & np.pad(before.live, (0, len(rows)), constant_values=True))
    reading = json.loads(json.dumps(finder.read(after, rows, quiet))) if rows else None
    added = (Added.of(after, rows, reading),) if rows else ()
    return finder.grow(after, Change(added, gone.astype(np.int64)))


class FinderContract:
    """Promises that no finder may break. Subclasses give `recipe`.

    `tolerance` says how far scores may move where only the order of sums differs; rows then may change places only
    between scores that close.
    """

    tolerance = 1e-6
    seeds = (0, 1, 2)

    def recipe(self) -> Recipe:
        raise NotImplementedError

    def data(self, catalog: Catalog, seed: int) -> Data:
        return Data(catalog, random_pasts(catalog, seed), text_encoder="hashing", seed=seed)

    def built(self, seed: int) -> tuple[Catalog, Finder]:
        kept = self.__class__.__dict__.get("_built")
        if kept is None:
            kept = {}
            type.__setattr__(self.__class__, "_built", kept)
        if seed not in kept:
            catalog = random_shop(seed)
            kept[seed] = (catalog, self.recipe().build(self.data(catalog, seed), quiet))
        return kept[seed]

    def ask(self, catalog: Catalog, finder: Finder, queries: list[Query], k: int = 7, **options) -> list[list]:
        """Answers as (id, score), through the gate that everything passes."""
        answers = raised(answer_each(Edition(catalog, finder), Gate(), queries, k, FindOptions(**options)))
        return [[(hit.item_id, hit.score) for hit in ranking] for ranking in answers]

    def alike(self, one: list[list], other: list[list]) -> None:
        """The same items in the same order, but for scores that are equal within the tolerance."""
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            scores = [score for _, score in first]
            assert [score for _, score in second] == pytest.approx(scores, abs=self.tolerance, rel=self.tolerance)
            for place, ((left, _), (right, _)) in enumerate(zip(first, second, strict=True)):
                if left != right:
                    last = scores[-1] if scores else 0.0
                    tied = [i for i, score in first if abs(score - scores[place]) <= 2 * self.tolerance]
                    assert right in tied or abs(scores[place] - last) <= 2 * self.tolerance

    def allowed(self, catalog: Catalog, query: Query) -> set[str]:
        mask = catalog.live if query.where is None else catalog.where(query.where)
        ids = {item_id for item_id, ok in zip(catalog.item_ids, mask, strict=True) if ok}
        return ids - set(query.exclude) - (set(query.history) if query.exclude_seen else set())

    def complete(self, catalog: Catalog, finder: Finder, queries: list[Query]) -> None:
        """Only what is allowed, k whenever k are allowed, none twice, finite falling scores."""
        for k in (1, 5, 100):
            for query, answer in zip(queries, self.ask(catalog, finder, queries, k), strict=True):
                ids, scores = [item_id for item_id, _ in answer], [score for _, score in answer]
                allowed = self.allowed(catalog, query)
                assert set(ids) <= allowed
                assert len(set(ids)) == len(ids) == min(k, len(allowed))
                assert np.isfinite(scores).all() and scores == sorted(scores, reverse=True)

    def checks(self, path: Path) -> bool:
        """Tell whether the finder itself notices that a file is damaged; an engine's manifest notices all."""
        return True

    # --- promises -------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_the_world_is_closed_and_answers_are_complete(self, seed):
        catalog, finder = self.built(seed)
        assert finder.name.strip()
        self.complete(catalog, finder, random_queries(catalog, seed))

    @pytest.mark.parametrize("seed", [0, 1])
    def test_a_batch_gives_what_single_queries_give(self, seed):
        catalog, finder = self.built(seed)
        queries = random_queries(catalog, seed + 10)
        alone = [self.ask(catalog, finder, [query])[0] for query in queries]
        batch = self.ask(catalog, finder, queries)
        assert [[i for i, _ in one] for one in batch] == [[i for i, _ in one] for one in alone]
        self.alike(batch, alone)
        assert self.ask(catalog, finder, []) == []

    def test_the_same_seed_gives_the_same_answers(self):
        catalog, finder = self.built(1)
        again = self.recipe().build(self.data(catalog, 1), quiet)
        queries = random_queries(catalog, 3)
        assert self.ask(catalog, again, queries) == self.ask(catalog, finder, queries)

    def test_what_is_saved_answers_as_before(self, tmp_path):
        catalog, finder = self.built(0)
        grown = catalog.add([item(90, np.random.default_rng(5))]).remove(["s2"])
        for place, (shop, made) in enumerate([(catalog, finder), (grown, changed(finder, catalog, grown))]):
            folder = tmp_path / str(place)
            folder.mkdir()
            details = save_finder(made, folder)
            assert not any(path.suffix in (".pkl", ".pt", ".bin") for path in folder.rglob("*"))
            loaded = open_finder(folder, details, shop)
            assert type(loaded) is type(made)
            assert (loaded.name, loaded.recipe.to_dict()) == (made.name, made.recipe.to_dict())
            assert (loaded.reads_words, loaded.reads_histories) == (made.reads_words, made.reads_histories)
            queries = random_queries(shop, 4)
            self.alike(self.ask(shop, loaded, queries), self.ask(shop, made, queries))
            later = shop.add([item(91, np.random.default_rng(6))])
            self.alike(
                self.ask(later, changed(loaded, shop, later), queries),
                self.ask(later, changed(made, shop, later), queries),
            )

    def test_a_recipe_survives_json(self):
        recipe = self.recipe()
        assert type(recipe).from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe

    def test_missing_and_cut_files_are_refused(self, tmp_path):
        catalog, finder = self.built(1)
        details = save_finder(finder, tmp_path)
        for path in sorted(path for path in tmp_path.rglob("*") if path.is_file() and self.checks(path)):
            whole = path.read_bytes()
            path.unlink()
            with pytest.raises(StorageError):
                type(finder).load(tmp_path, details, catalog, None)
            path.write_bytes(whole[: len(whole) // 2])
            with pytest.raises(StorageError):
                type(finder).load(tmp_path, details, catalog, None)
            path.write_bytes(whole)

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_added_items_can_be_found_and_removed_ones_never(self, seed):
        catalog, finder = self.built(seed)
        random = np.random.default_rng(seed)
        queries = random_queries(catalog, seed + 20)
        before = self.ask(catalog, finder, queries)
        later = catalog.remove(["s3", "s5"]).add([item(50, random), item(51, random), item(3, random)])
        later = later.update([item(4, random), item(52, random)])
        grown = changed(finder, catalog, later)
        asked = [query for query in random_queries(later, seed + 30)]
        self.complete(later, grown, asked)
        self.complete(later, grown.compact(), asked)
        self.alike(self.ask(later, grown.compact(), asked), self.ask(later, grown, asked))
        everything = Query("boot", history=["s0"], exclude_seen=False)
        ids = {item_id for item_id, _ in self.ask(later, grown, [everything], 100)[0]}
        assert ids == set(np.array(later.item_ids)[later.live]) and {"s50", "s51", "s52", "s3"} <= ids
        assert self.ask(catalog, finder, queries) == before  # the earlier finder stays as it was

    @pytest.mark.parametrize("seed", [0, 1])
    def test_one_change_or_several_make_no_difference(self, seed):
        catalog, finder = self.built(seed)
        random = np.random.default_rng(seed + 40)
        shops = [catalog]
        for number in range(4):
            shops.append(shops[-1].add([item(60 + number, random)]))
        shops.append(shops[-1].remove(["s1", "s61"]))
        shops.append(shops[-1].update([item(2, random)]))
        shops.append(shops[-1].update([item(2, random)]))
        shops.append(shops[-1].add([item(1, random)]))
        stepwise = finder
        readings = []
        for before, after in zip(shops, shops[1:], strict=False):
            rows = range(len(before), len(after))
            if rows:
                readings.append((rows, finder.read(after, rows, quiet)))
            stepwise = changed(stepwise, before, after)
        last = shops[-1]
        gone = np.flatnonzero(~last.live & np.pad(catalog.live, (0, len(last) - len(catalog)), constant_values=True))
        added = tuple(Added.of(last, rows, reading) for rows, reading in readings)
        at_once = finder.grow(last, Change(added, gone.astype(np.int64)))
        queries = random_queries(last, seed + 50)
        self.alike(self.ask(last, stepwise, queries), self.ask(last, at_once, queries))

    def test_a_view_of_a_part_knows_nothing_of_the_rest(self):
        catalog, finder = self.built(1)
        mask = np.arange(len(catalog)) % 2 == 0
        part = catalog.only(mask)
        view = finder.grow(part, Change(gone=np.flatnonzero(catalog.live & ~mask).astype(np.int64)))
        self.complete(part, view, random_queries(part, 60))

    def test_one_item(self):
        catalog = Catalog.from_items([{"id": "s0", "title": "red boot", "price": 3}])
        finder = self.recipe().build(Data(catalog, text_encoder="hashing"), quiet)
        queries = [Query("boot"), Query(history=["s0"], exclude_seen=False), Query(history=["s0"])]
        assert [[i for i, _ in one] for one in self.ask(catalog, finder, queries)] == [["s0"], ["s0"], []]

    def test_explanations_are_plain_values_one_for_each_hit(self):
        catalog, finder = self.built(0)
        for answer in finder.find([], 3, FindOptions(explain=True)):
            raise AssertionError(answer)
        queries = [Query("red boot"), Query("wool", history=["s1"])]
        answers = raised(answer_each(Edition(catalog, finder), Gate(), queries, 5, FindOptions(explain=True)))
        for ranking in answers:
            json.dumps([hit.to_dict() for hit in ranking])

    def test_a_question_can_be_stopped(self):
        catalog, finder = self.built(0)

        def stop() -> None:
            raise TimeoutError

        with pytest.raises(TimeoutError):
            answer_each(Edition(catalog, finder), Gate(), [Query(history=["s0"])], 3, FindOptions(before_step=stop))

    def test_what_is_read_changes_the_answer_and_nothing_else_does(self):
        catalog, finder = self.built(1)
        one, other = self.ask(catalog, finder, [Query("red boot"), Query("trail shoe running socks")])
        if not finder.reads_words:
            assert one == other
        pasts = [Query(history=[f"s{row}"], exclude_seen=False) for row in range(10)]
        answers = self.ask(catalog, finder, pasts)
        if finder.reads_histories:
            assert any(answer != answers[0] for answer in answers)
        else:
            assert all(answer == answers[0] for answer in answers)
