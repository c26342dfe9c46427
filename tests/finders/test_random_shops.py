"""The promises of the fused engine on random shops: odd words, odd values, random changes, filters and pasts."""

import numpy as np
import pytest

import genrail
from genrail.catalog import Catalog, Interactions
from genrail.errors import GenrailError
from genrail.types import Query

WORDS = [
    "red",
    "boot",
    "Größe",
    "靴",
    "a",
    "42",
    "x-1",
    "не",
    "<b>",
    "shoe",
    "",
    "' OR 1=1",
    "1 < 2",
    "\u0000tab",
    "🙂",
]
FILTERS = {
    "price < 50": lambda item: item["price"] is not None and item["price"] < 50,
    "kind = 'a'": lambda item: item["kind"] == "a",
}


def words(random, most):
    return " ".join(random.choice(WORDS, int(random.integers(1, most + 1))))


def item(random, number):
    return {
        "id": f"i{number}",
        "title": words(random, 4).strip() or "nothing",
        "kind": str(random.choice(["a", "b", "c"])),
        "price": None if random.random() < 0.2 else float(random.integers(100)),
    }


def built(random):
    items = [item(random, number) for number in range(int(random.integers(1, 30)))]
    lanes = ["bm25", "dense", "lookup"]
    events = None
    if len(items) > 4 and random.random() < 0.6:
        users = {
            f"u{user}": [f"i{row}" for row in random.integers(len(items), size=random.integers(1, 6))]
            for user in range(12)
        }
        events, lanes = Interactions.from_sequences(users), [*lanes, "cooccurrence"]
    engine = genrail.Engine.build(Catalog.from_items(items), lanes=lanes, interactions=events, encoder="hashing")
    return engine, {one["id"]: one for one in items}


def question(random, items, gone):
    known = [*items, *gone, "never-heard-of"]
    history = [str(one) for one in random.choice(known, int(random.integers(0, 4)))]
    wordless = not set(history) & items.keys() or random.random() < 0.5
    text = words(random, 5).strip() or "red" if wordless else None
    where = str(random.choice([*FILTERS])) if random.random() < 0.5 else None
    return Query(text, history, where=where, exclude_seen=bool(random.random() < 0.7))


def allowed(asked, items):
    kept = {name for name, one in items.items() if asked.where is None or FILTERS[asked.where](one)}
    return kept - set(asked.history) if asked.exclude_seen else kept


def check(engine, asked, items, k):
    """Closed world, completeness, filters inside, no item twice, scores from 1 down to 0."""
    expected = allowed(asked, items)
    for one, ranking in zip(asked_alone_and_together(engine, asked, k), ("together", "alone"), strict=True):
        assert set(one.item_ids) <= expected, ranking
        assert len(one.item_ids) == len(set(one.item_ids)) == min(k, len(expected)), ranking
        scores = [hit.score for hit in one]
        assert scores == sorted(scores, reverse=True)
        assert all(0.0 <= score <= 1.0 for score in scores)


def asked_alone_and_together(engine, asked, k):
    together = engine.search_batch([asked, Query("red boot")], k)[0]
    [alone] = engine.search_batch([asked], k)
    assert together.item_ids == alone.item_ids
    return together, alone


def change(random, engine, items, gone):
    """Add, update or remove; a change that is refused leaves everything as it was."""
    what = random.integers(4)
    if what == 0:
        new = [item(random, 100 + len(items) + len(gone) + each) for each in range(int(random.integers(1, 3)))]
        engine.add(new)
        items.update({one["id"]: one for one in new})
    elif what == 1 and len(items) > 1:
        name = str(random.choice([*items]))
        engine.remove([name])
        gone[name] = items.pop(name)
    elif what == 2:
        name = str(random.choice([*items]))
        new = {**item(random, 0), "id": name}
        engine.update([new])
        items[name] = new
    else:
        with pytest.raises(GenrailError):
            engine.add([item(random, 1000), {**item(random, 1001), "id": next(iter(items))}])


def one_shop(seed, tmp_path):
    random = np.random.default_rng(seed)
    engine, items = built(random)
    gone = {}
    for _ in range(4):
        for _ in range(3):
            check(engine, question(random, items, gone), items, int(random.choice([1, 3, 50])))
        change(random, engine, items, gone)
    asked = [question(random, items, gone) for _ in range(3)]
    engine.save(tmp_path / str(seed))
    again = genrail.load(tmp_path / str(seed))
    for before, after in zip(engine.search_batch(asked, 10), again.search_batch(asked, 10), strict=True):
        assert before.item_ids == after.item_ids


@pytest.mark.parametrize("seed", [*range(10), 983])  # 983: a score that moved by rounding when the shop was read again
def test_a_random_shop_keeps_the_promises(seed, tmp_path):
    one_shop(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_a_thousand_random_shops_keep_the_promises(block, tmp_path):
    for seed in range(100 + 100 * block, 200 + 100 * block):
        one_shop(seed, tmp_path)
