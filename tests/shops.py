"""Small shops and engines that tests of several rooms share."""

from functools import cache

from genrail.catalog import Catalog, Interactions
from genrail.engine import Engine

COLOURS = ("red", "blue", "green", "black")
KINDS = ("boot", "sandal", "sneaker", "clog", "slipper")


def shop(items=40):
    """Make a catalogue in which every kind comes in every colour, at rising prices."""
    return Catalog.from_items(
        [
            {
                "sku": f"s{number}",
                "name": f"{COLOURS[number % 4]} {KINDS[number % 5]} {number // 20}",
                "colour": COLOURS[number % 4],
                "price": 10 + number,
                "in_stock": number % 3 != 0,
            }
            for number in range(items)
        ]
    )


def pasts(catalog, users=30):
    """Make shoppers who stay with one kind of shoe."""
    ids = catalog.item_ids
    return Interactions.from_sequences(
        {f"u{user}": [ids[(user % 5 + 5 * step) % len(ids)] for step in range(5)] for user in range(users)}
    )


def build(catalog, **settings):
    """Build a small native engine."""
    return Engine.build(catalog, "native", encoder="hashing", **{"epochs": 4, **settings})


@cache
def engine():
    """Build the engine that tests share; tests that change one build their own."""
    catalog = shop()
    return build(catalog, interactions=pasts(catalog))
