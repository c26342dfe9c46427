"""The demo shop: shoes that nobody makes, shoppers that nobody met, drawn from a seed.

Everything is a pure function of the seed: 3,000 products in lines of several colours, and 5,000 shoppers with a taste
for categories, brands, colours and a price level. What they buy next depends on it, and on what they just bought:
a boot asks for wax and socks, a liked model for its other colour or its bigger sister. So there is something to learn
for search (words and attributes agree) and for recommendation (the past tells more than popularity). Product numbers
are drawn at random and say nothing.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.catalog.demo_words import AUDIENCES, BRANDS, CATEGORIES, COLOURS, COMPLEMENTS, MODELS, QUERIES, Category
from genrail.catalog.interactions import Interactions
from genrail.catalog.items import Catalog
from genrail.rng import generator

__all__ = ["DemoQuery", "demo_catalog", "demo_interactions", "demo_qrels", "demo_queries", "write_demo"]

PRODUCTS = 3_000
SHOPPERS = 5_000
_SHORTEST, _LONGEST = 5, 20  # purchases of one shopper
_DRAWS = 48  # draws from a shopper's taste, enough to skip what was bought before
_CHUNK = 500  # shoppers whose taste for every product is in memory at once: 500 * 3,000 * 8 bytes = 12 MB
_FIRST_SECOND = 1_672_531_200  # 2023-01-01
_DAY = 86_400

# How the next purchase comes about; the rest is taste alone.
_COMPLEMENT = 0.22
_SAME_LINE = 0.08
_SUCCESSOR = 0.16
_PARTNERS = (0.45, 0.27, 0.18, 0.10)  # probabilities of the partners of one product, best first

_COLUMNS = (
    "product_id", "title", "brand", "category", "colour", "material", "price", "waterproof", "audience", "season",
    "weight_grams", "in_stock", "description",
)  # fmt: skip

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DemoQuery:
    """Hold a shopper's words and what makes an item right for them.

    Args:
        query_id: Such as "q07".
        text: The words.
        where: A filter of the catalogue; the items it marks are relevant.
    """

    query_id: str
    text: str
    where: str


@dataclass(frozen=True)
class _Shop:
    """Hold the products as arrays, sorted by category; each of shape (products,)."""

    category: Ints
    brand: Ints
    line: Ints  # products of one line are one model in several colours
    colour: Ints
    audience: Ints
    price: Floats
    waterproof: npt.NDArray[np.bool_]
    in_stock: npt.NDArray[np.bool_]
    popularity: Floats  # logarithm
    number: Ints  # the product number, random
    material: list[str]
    model: list[str]
    purpose: list[str]
    weight: Ints


def demo_catalog(seed: int = 7) -> Catalog:
    """Make the catalogue of the demo shop, 3,000 products.

    >>> shop = demo_catalog()
    >>> len(shop), shop.columns.item_id, shop.columns.title
    (3000, 'product_id', 'title')
    """
    return Catalog.from_frame(pl.DataFrame(_records(_shop(seed))))


def demo_interactions(seed: int = 7) -> Interactions:
    """Make the purchases of the demo shop: 5,000 shoppers, 5 to 20 each, with times.

    >>> demo_interactions().users
    5000
    """
    return Interactions.from_frame(pl.DataFrame(_purchases(_shop(seed), seed)))


def demo_queries() -> list[DemoQuery]:
    """List queries in a shopper's words, with the filter that says which items are right.

    >>> demo_queries()[2]
    DemoQuery(query_id='q02', text='wellies for the garden', where="category = 'rain boots'")
    """
    return [DemoQuery(f"q{number:02d}", text, where) for number, (text, where) in enumerate(QUERIES)]


def demo_qrels(seed: int = 7) -> dict[str, dict[str, float]]:
    """Derive the relevance judgements of `demo_queries` from the attributes: 1 for what fulfils the filter."""
    catalog = demo_catalog(seed)
    ids = np.array(catalog.item_ids)
    return {query.query_id: dict.fromkeys(ids[catalog.where(query.where)].tolist(), 1.0) for query in demo_queries()}


def write_demo(folder: str | Path, seed: int = 7) -> None:
    """Write the demo shop as files: products.csv, interactions.csv, queries.csv and qrels.csv.

    Args:
        folder: Made if it is not there.
        seed: Of the shop.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shop = _shop(seed)
    products, purchases = _records(shop), _purchases(shop, seed)
    _write(folder / "products.csv", list(products), zip(*products.values(), strict=True))
    _write(folder / "interactions.csv", list(purchases), zip(*purchases.values(), strict=True))
    _write(folder / "queries.csv", ["query_id", "query"], [(query.query_id, query.text) for query in demo_queries()])
    judged = [(query, item, 1) for query, items in demo_qrels(seed).items() for item in items]
    _write(folder / "qrels.csv", ["query_id", "product_id", "relevance"], judged)


def _write(path: Path, header: list[str], rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for row in rows:
            writer.writerow([_written(value) for value in row])


def _written(value: object) -> object:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else value


# --- products -------------------------------------------------------------------------------------------------------


def _shop(seed: int) -> _Shop:
    """Draw product lines until the shop is full, then sort by category."""
    rng = generator(seed, "demo products")
    shares = np.array([category.share for category in CATEGORIES])
    counts = np.maximum(1, np.round(PRODUCTS * shares / shares.sum())).astype(np.int64)
    counts[np.argmax(counts)] += PRODUCTS - counts.sum()
    rows: dict[str, list[object]] = {name: [] for name in ("category", "brand", "line", "colour", "audience", "price")}
    rows |= {name: [] for name in ("waterproof", "popularity", "material", "model", "purpose", "weight")}
    lines, names = 0, set[tuple[str, int, int, int]]()
    for number, category in enumerate(CATEGORIES):
        left = int(counts[number])
        while left > 0:
            size = min(left, int(rng.integers(2, 6)))
            _draw_line(rng, rows, number, category, lines, size, names)
            lines += 1
            left -= size
    order = rng.permutation(10 * PRODUCTS)[:PRODUCTS]
    return _Shop(
        **{name: np.array(rows[name]) for name in ("category", "brand", "line", "colour", "audience", "price")},
        waterproof=np.array(rows["waterproof"], dtype=bool),
        in_stock=rng.random(PRODUCTS) < 0.9,
        popularity=np.array(rows["popularity"]),
        number=order + 10_000,
        material=list(map(str, rows["material"])),
        model=list(map(str, rows["model"])),
        purpose=list(map(str, rows["purpose"])),
        weight=np.array(rows["weight"]),
    )


def _draw_line(
    rng: np.random.Generator, rows: dict[str, list[object]], number: int, category: Category, line: int, size: int,
    names: set[tuple[str, int, int, int]],
) -> None:  # fmt: skip
    """Draw one model and the colours it comes in; no two lines share brand, model, category and audience."""
    makers = [index for index, brand in enumerate(BRANDS) if category.world in brand.worlds]
    womens = category.name in ("heels", "ballet flats")
    shares = [0.94, 0.0, 0.0, 0.06] if womens else [0.36, 0.36, 0.14, 0.14]
    shares = [0.1, 0.1, 0.7, 0.1] if category.world == "care" else shares
    while True:
        brand = int(rng.choice(makers))
        audience = int(rng.choice(len(AUDIENCES), p=shares))
        model = str(rng.choice(MODELS))
        if category.world == "care" or rng.random() < 0.3:
            model += f" {rng.integers(2, 10)}"
        if (model, brand, number, audience) not in names:
            break
    names.add((model, brand, number, audience))
    waterproof = bool(rng.random() < category.waterproof)
    price = category.price * BRANDS[brand].price_level * float(np.exp(rng.normal(0, 0.18)))
    price *= (1.12 if waterproof else 1.0) * (0.6 if AUDIENCES[audience] == "kids" else 1.0)
    rows["category"] += [number] * size
    rows["brand"] += [brand] * size
    rows["line"] += [line] * size
    rows["colour"] += rng.permutation(len(COLOURS))[:size].tolist()
    rows["audience"] += [audience] * size
    rows["price"] += [max(3.95, round(price / 5) * 5 - 0.05) if price > 20 else round(price) - 0.05] * size
    rows["waterproof"] += [waterproof] * size
    rows["popularity"] += (rng.normal(0, 0.45) + rng.normal(0, 0.35, size)).tolist()
    rows["material"] += [str(rng.choice(category.materials))] * size
    rows["model"] += [model] * size
    rows["purpose"] += [str(rng.choice(category.purposes))] * size
    rows["weight"] += [round(category.weight_grams * float(np.exp(rng.normal(0, 0.12))) / 5) * 5] * size


def _records(shop: _Shop) -> dict[str, list[object]]:
    """Write the columns of products.csv, in the order of the product numbers."""
    columns: dict[str, list[object]] = {name: [] for name in _COLUMNS}
    for row in np.argsort(shop.number).tolist():
        category, brand = CATEGORIES[shop.category[row]], BRANDS[shop.brand[row]].name
        audience, colour = AUDIENCES[shop.audience[row]], COLOURS[shop.colour[row]]
        values = (
            _product_id(int(shop.number[row])), _title(shop, row), brand, category.name, colour, shop.material[row],
            round(float(shop.price[row]), 2), bool(shop.waterproof[row]), audience, category.season,
            int(shop.weight[row]) or None, bool(shop.in_stock[row]), _description(shop, row),
        )  # fmt: skip
        for name, value in zip(columns, values, strict=True):
            columns[name].append(value)
    return columns


def _product_id(number: int) -> str:
    return f"SH-{number}"


def _title(shop: _Shop, row: int) -> str:
    category = CATEGORIES[shop.category[row]]
    audience = {"women": "women's ", "men": "men's ", "kids": "kids' ", "unisex": ""}[AUDIENCES[shop.audience[row]]]
    waterproof = "waterproof " if shop.waterproof[row] and category.name not in ("rain boots", "gaiters") else ""
    brand = BRANDS[shop.brand[row]].name
    return f"{brand} {shop.model[row]} {audience}{waterproof}{category.noun}, {COLOURS[shop.colour[row]]}"


def _description(shop: _Shop, row: int) -> str:
    category = CATEGORIES[shop.category[row]]
    water = " Keeps feet dry in the rain." if shop.waterproof[row] else ""
    season = {"summer": " Airy in the heat.", "winter": " Warm when it freezes.", "all year": ""}[category.season]
    material = shop.material[row]
    return f"{material.capitalize()}, made for {shop.purpose[row]}.{water}{season}"


# --- shoppers -------------------------------------------------------------------------------------------------------


def _purchases(shop: _Shop, seed: int) -> dict[str, list[object]]:
    """Let every shopper buy: columns user_id, product_id and timestamp, in order of time."""
    rng = generator(seed, "demo shoppers")
    taste = _taste_draws(shop, rng)  # (shoppers, draws)
    chain = _chains(shop, rng)
    lengths = np.minimum(_LONGEST, _SHORTEST + rng.geometric(0.22, SHOPPERS) - 1)
    history = np.full((SHOPPERS, _LONGEST), -1, dtype=np.int64)
    history[:, 0] = taste[:, 0]
    used = np.ones(SHOPPERS, dtype=np.int64)  # draws used of each shopper's taste
    everyone = np.arange(SHOPPERS)
    for step in range(1, _LONGEST):
        wish = _wish(rng, history[:, step - 1], chain)
        for _ in range(_DRAWS - step):
            bought = (history[:, :step] == wish[:, None]).any(axis=1) | (wish < 0)
            if not bought.any():
                break
            wish[bought] = taste[everyone[bought], used[bought] % _DRAWS]
            used[bought] += 1
        history[:, step] = wish
    start = _FIRST_SECOND + rng.integers(0, 500 * _DAY, SHOPPERS)
    gaps = 60 + rng.exponential(18 * _DAY, (SHOPPERS, _LONGEST)).astype(np.int64)
    times = start[:, None] + np.cumsum(gaps, axis=1)
    inside = np.arange(_LONGEST) < lengths[:, None]
    users = np.repeat(everyone, lengths)
    rows, times = history[inside], times[inside]
    order = np.argsort(times, kind="stable")
    return {
        "user_id": [f"shopper-{user}" for user in users[order].tolist()],
        "product_id": [_product_id(number) for number in shop.number[rows[order]].tolist()],
        "timestamp": times[order].tolist(),
    }


def _taste_draws(shop: _Shop, rng: np.random.Generator) -> Ints:
    """Draw products from each shopper's taste, first by category, then within it; shape (shoppers, draws).

    A shopper's categories belong to one or two worlds; four in ten turn to another world half-way.
    """
    worlds = sorted({category.world for category in CATEGORIES} - {"care"})
    world_of = np.array([(worlds + ["care"]).index(category.world) for category in CATEGORIES])
    first, second, later = rng.integers(0, len(worlds), (3, SHOPPERS))
    later = np.where(rng.random(SHOPPERS) < 0.4, later, first)
    liking = rng.gamma(0.5, 1.0, (SHOPPERS, len(CATEGORIES))) * np.array([category.share for category in CATEGORIES])
    early = liking * (0.02 + (world_of == first[:, None]) + 0.35 * (world_of == second[:, None]))
    late = liking * (0.02 + (world_of == later[:, None]) + 0.35 * (world_of == second[:, None]))
    turn = np.where(later == first, _DRAWS, rng.integers(4, 10, SHOPPERS))
    ends = np.searchsorted(shop.category, np.arange(len(CATEGORIES)), side="right")
    draws = np.empty((SHOPPERS, _DRAWS), dtype=np.int64)
    for begin in range(0, SHOPPERS, _CHUNK):
        part = slice(begin, begin + _CHUNK)
        weights = np.exp(_liking(shop, rng, first[part])).cumsum(axis=1, dtype=np.float64)
        upto = weights[:, ends - 1]
        mass = np.diff(upto, axis=1, prepend=0.0)
        changed = np.arange(_DRAWS) >= turn[part, None]
        chosen = np.where(changed, _pick(rng, late[part], _DRAWS), _pick(rng, early[part], _DRAWS))
        lower = np.take_along_axis(upto - mass, chosen, axis=1)
        target = lower + rng.random(chosen.shape) * np.take_along_axis(mass, chosen, axis=1)
        found = [np.searchsorted(row, wanted, side="right") for row, wanted in zip(weights, target, strict=True)]
        draws[part] = np.minimum(np.array(found), ends[chosen] - 1)
    return draws


def _liking(shop: _Shop, rng: np.random.Generator, world: Ints) -> npt.NDArray[np.float32]:
    """Score every product for some shoppers by brand, colour, price and audience; shape (shoppers, products)."""
    people = len(world)
    brands = rng.normal(0, 1.5, (people, len(BRANDS)))  # loyalty: a few brands stand far above the others
    colours = rng.normal(0, 0.8, (people, len(COLOURS)))
    wearer = rng.integers(0, 2, people)  # women's or men's
    parent = rng.random(people) < 0.2
    audiences = np.full((people, len(AUDIENCES)), -4.0)
    audiences[np.arange(people), wearer] = 0.0
    audiences[:, AUDIENCES.index("unisex")] = -0.3
    audiences[parent, AUDIENCES.index("kids")] = 0.0
    typical = np.array([category.price for category in CATEGORIES])[shop.category]
    level = np.log(shop.price / typical)  # dear or cheap for its kind
    wanted = rng.normal(0, 0.3, people)
    distance = (level[None, :] - wanted[:, None]) / 0.3
    scores = shop.popularity + brands[:, shop.brand] + colours[:, shop.colour] + audiences[:, shop.audience]
    return np.asarray(scores - 0.5 * distance**2, dtype=np.float32)


def _pick(rng: np.random.Generator, weights: Floats, draws: int) -> Ints:
    """Draw columns with probability proportional to each row's weights, shape (rows, draws)."""
    edges = weights.cumsum(axis=1)
    edges /= edges[:, -1:]
    return np.asarray((rng.random((len(weights), draws, 1)) > edges[:, None, :-1]).sum(axis=2))


@dataclass(frozen=True)
class _Chains:
    """Hold what leads where: for each product four complements, four draws from its line, four successors."""

    complement: Ints
    sister: Ints
    successor: Ints


def _chains(shop: _Shop, rng: np.random.Generator) -> _Chains:
    """Tie products to each other; partners suit each other in audience, and are the same for all colours of a line."""
    lines = int(shop.line.max()) + 1
    leader = np.searchsorted(shop.line, np.arange(lines))  # first product of each line
    names = [category.name for category in CATEGORIES]
    complement = np.empty((lines, len(_PARTNERS)), dtype=np.int64)
    successor = np.empty((lines, len(_PARTNERS)), dtype=np.int64)
    for line in range(lines):
        product = leader[line]
        category = int(shop.category[product])
        options = COMPLEMENTS[names[category]]
        weights = np.array([weight for _, weight in options], dtype=np.float64)
        kinds = rng.choice(len(options), len(_PARTNERS), p=weights / weights.sum())
        complement[line] = [_partner(shop, rng, names.index(options[kind][0]), product) for kind in kinds]
        successor[line] = [_partner(shop, rng, category, product) for _ in _PARTNERS]
    size = np.bincount(shop.line)[shop.line]
    sister = leader[shop.line][:, None] + rng.integers(0, 2**31, (len(shop.line), len(_PARTNERS))) % size[:, None]
    return _Chains(complement[shop.line], sister, successor[shop.line])


def _partner(shop: _Shop, rng: np.random.Generator, category: int, product: int) -> int:
    """Choose a product of a category that the same person could wear."""
    first, last = np.searchsorted(shop.category, [category, category + 1])
    fits = (shop.audience[first:last] == shop.audience[product]) | (
        shop.audience[first:last] == AUDIENCES.index("unisex")
    )
    options = np.flatnonzero(fits) + first if fits.any() else np.arange(first, last)
    return int(options[rng.integers(len(options))])


def _wish(rng: np.random.Generator, last: Ints, chain: _Chains) -> Ints:
    """Choose what the last purchase leads to, -1 for nothing: then taste decides."""
    people = len(last)
    kind = rng.random(people)
    which = rng.choice(len(_PARTNERS), people, p=_PARTNERS)
    wish = np.full(people, -1, dtype=np.int64)
    for bound, table in (
        (_COMPLEMENT + _SAME_LINE + _SUCCESSOR, chain.successor),
        (_COMPLEMENT + _SAME_LINE, chain.sister),
        (_COMPLEMENT, chain.complement),
    ):
        wish = np.where(kind < bound, table[last, which], wish)
    return wish
