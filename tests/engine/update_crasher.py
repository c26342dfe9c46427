"""A process that changes a live engine, saying what it does, until it is killed."""

import random

import numpy as np
import torch  # noqa: F401  (imported once by the fork server, not by every process that is killed)

from genrail.constraints import warm_up
from genrail.engine import Engine
from genrail.engine.folder import read_version
from genrail.engine.live import MergeSettings
from genrail.models.tiny import HashingEncoder
from genrail.storage import live_version, open_version, versions

ENCODER = HashingEncoder()
MOST_ITEMS = 100  # a thousand kills later too


def warm():
    """Compile the kernels before processes are forked; a process that computes with torch cannot be forked safely."""
    warm_up(vocab_size=64)


def content(engine):
    """Say what a user could find: id, title and price of every live item."""
    catalog = engine.catalog
    rows = np.flatnonzero(catalog.live).tolist()
    prices = catalog.frame.get_column("price").to_list()
    return sorted((catalog.item_ids[row], catalog.titles[row], prices[row]) for row in rows)


def opened(folder, **settings):
    return Engine.load(folder, encoder=ENCODER, **settings)


class UpdateCrasher:
    """Do random acts on a live engine, and tell before each what it will lead to.

    Args:
        folder: A saved engine.
        seed: Of the choices.
        say: Takes the content that an act leads to before it begins, and None when it is acknowledged.
    """

    def __init__(self, folder, seed, say):
        self.folder = folder
        self.random = random.Random(seed)
        self.say = say
        self.next = seed * 1_000
        self.engine = opened(folder, live=True, merging=MergeSettings(share=0.05, at_least=6))

    def run(self):
        acts = [self.add, self.add, self.remove, self.update, self.merge, self.go_back]
        while True:
            act = self.random.choice(acts)
            (act if len(self.engine) < MOST_ITEMS else self.remove)()

    def act(self, expected, do):
        self.say(sorted(expected))
        do()
        self.say(None)

    def add(self):
        self.next += 3
        new = [(f"n{self.next + number}", f"green clog {self.next + number}", number) for number in range(3)]
        items = [{"sku": item_id, "name": title, "price": price} for item_id, title, price in new]
        self.act([*content(self.engine), *new], lambda: self.engine.add(items))

    def remove(self):
        now = content(self.engine)
        gone = [item[0] for item in self.random.sample(now, min(3, len(now) - 5))]
        if gone:
            self.act([item for item in now if item[0] not in gone], lambda: self.engine.remove(gone))

    def update(self):
        self.next += 1
        now = content(self.engine)
        price, title = self.next, f"red boot {self.next}"
        ids = [now[0][0], now[1][0]]
        items = [{"sku": ids[0], "price": price}, {"sku": ids[1], "name": title}]
        after = [(ids[0], now[0][1], price), (ids[1], title, now[1][2]), *now[2:]]
        self.act(after, lambda: self.engine.update(items))

    def merge(self):
        self.act(content(self.engine), self.engine.merge)

    def go_back(self):
        self.engine.wait()
        live = live_version(self.folder)
        number = self.random.choice(versions(self.folder))
        if number == live:
            return
        expected = self.content_of(number)
        self.act(expected, lambda: self.engine.rollback(number))

    def content_of(self, number):
        return content(Engine(read_version(open_version(self.folder, number=number), ENCODER)[0]))


def crash(folder, seed, connection):
    """Run until killed; the other end of `connection` hears what is done."""
    try:
        connection.send("ready")
        UpdateCrasher(folder, seed, connection.send).run()
    except KeyboardInterrupt:
        return
