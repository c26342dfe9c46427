"""A process that publishes, logs, rolls back, cleans and archives, saying what it does, until it is killed."""

import random
from dataclasses import replace
from pathlib import Path

from genrail.storage import gc, open_journal, open_version, publish, restore, rollback, snapshot, versions
from tests.storage.content import fill, tag_of


def state(folder, number=None):
    """Read what a user would get: tag and changes."""
    version = open_version(folder, number=number)
    return tag_of(version), [record["n"] for record in open_journal(version).records()]


class Crasher:
    """Do random acts on a folder, and tell before each what it will lead to.

    Args:
        folder: A saved folder.
        seed: Of the choices.
        say: Takes the state that an act leads to before it begins, and None when it is done.
    """

    def __init__(self, folder, seed, say):
        self.folder = folder
        self.random = random.Random(seed)
        self.say = say
        self.next = seed * 1_000_000

    def run(self):
        acts = [self.publish, self.publish, self.append, self.append, self.append, self.rollback, self.gc, self.archive]
        while True:
            self.random.choice(acts)()

    def number(self):
        self.next += 1
        return self.next

    def publish(self):
        journal = open_journal(open_version(self.folder))
        changes = [record["n"] for record in journal.records()]
        merged = self.random.randint(0, len(changes))
        base = replace(journal.position, records=merged)
        tag = self.number()
        self.say((tag, changes[merged:]))
        publish(self.folder, fill(tag), details={"tag": tag}, base=base)
        self.say(None)

    def append(self):
        journal = open_journal(open_version(self.folder))
        tag, changes = state(self.folder)
        for _ in range(self.random.randint(1, 5)):
            changes = [*changes, self.number()]
            self.say((tag, changes))
            journal.append({"n": changes[-1]})
            self.say(None)

    def rollback(self):
        number = self.random.choice(versions(self.folder))
        self.say(state(self.folder, number))
        rollback(self.folder, number)
        self.say(None)

    def gc(self):
        self.say(state(self.folder))
        gc(self.folder)
        self.say(None)

    def archive(self):
        archive = Path(f"{self.folder}.tar.gz")
        archive.unlink(missing_ok=True)
        self.say(state(self.folder))
        snapshot(self.folder, archive)
        restore(archive, self.folder)
        self.say(None)


def crash(folder, seed, connection):
    """Run until killed; the other end of `connection` hears what is done."""
    connection.send("ready")
    Crasher(folder, seed, connection.send).run()
