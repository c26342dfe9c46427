"""Any sequence of acts and crashes leaves the folder where a dictionary says it is."""

import shutil
import tempfile
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from genrail.storage import Position, gc, open_journal, open_version, publish, rollback, verify, versions
from tests.storage.content import fill, tag_of
from tests.storage.faults import UNSYNCED, Death, DyingFiles


class Model:
    """Say what a folder must hold: a tag and changes for each version."""

    def __init__(self):
        self.versions = {}
        self.live = None
        self.newest = 0

    @property
    def live_changes(self):
        return self.versions[self.live][1]

    def publish(self, tag, merged, keep):
        carried = self.live_changes[merged:] if merged is not None else []
        self.newest += 1
        self.live = self.newest
        self.versions[self.live] = (tag, carried)
        self.gc(keep)

    def append(self, change):
        self.live_changes.append(change)

    def rollback(self, number):
        self.live = number

    def gc(self, keep):
        others = sorted(set(self.versions) - {self.live})
        for number in others[: max(0, len(others) - keep + 1)]:
            del self.versions[number]


class SavedFolder(RuleBasedStateMachine):
    """Do the same to a folder and to a model."""

    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="saved-folder-"))
        self.folder = self.directory / "shop.genrail"
        self.model = Model()
        self.next = 0

    def teardown(self):
        shutil.rmtree(self.directory)

    def number(self):
        self.next += 1
        return self.next

    @initialize()
    def first(self):
        self.do("publish", (self.number(), None, 2), UNSYNCED)
        self.model.publish(self.next, None, 2)

    def do(self, act, arguments, files):
        """Do an act to the folder."""
        if act == "publish":
            tag, merged, keep = arguments
            base = None if merged is None else Position(self.model.live, merged)
            publish(self.folder, fill(tag, files), details={"tag": tag}, keep=keep, base=base, files=files)
        elif act == "append":
            open_journal(open_version(self.folder, files=files), files=files).append({"n": arguments[0]})
        elif act == "rollback":
            rollback(self.folder, *arguments, files=files)
        else:
            gc(self.folder, *arguments, files=files)

    def choose(self, data):
        act = data.draw(st.sampled_from(["publish", "append", "rollback", "gc"]), label="act")
        keep = data.draw(st.integers(1, 3), label="keep")
        merged = data.draw(st.none() | st.integers(0, len(self.model.live_changes)), label="merged")
        number = data.draw(st.sampled_from(sorted(self.model.versions)), label="number")
        return act, {
            "publish": (self.number(), merged, keep),
            "append": (self.number(),),
            "rollback": (number,),
            "gc": (keep,),
        }[act]

    @rule(data=st.data())
    def succeed(self, data):
        act, arguments = self.choose(data)
        self.do(act, arguments, UNSYNCED)
        getattr(self.model, act)(*arguments)

    @rule(data=st.data(), at=st.integers(0, 45))
    @precondition(lambda self: self.model.live)
    def die(self, data, at):
        act, arguments = self.choose(data)
        before, after = self.model, deepcopy(self.model)
        getattr(after, act)(*arguments)
        try:
            self.do(act, arguments, DyingFiles(at))
            self.model = after
        except Death:
            self.model = after if self.fits(after) else before
            # Removing old versions may have stopped anywhere.
            known = before.versions | self.model.versions
            self.model.versions = {number: known[number] for number in versions(self.folder)}

    def fits(self, model):
        version = open_version(self.folder)
        changes = [record["n"] for record in open_journal(version).records()]
        return version.number == model.live and (tag_of(version), changes) == model.versions[model.live]

    @invariant()
    def folder_is_what_the_model_says(self):
        if self.model.live is None:
            return
        assert versions(self.folder) == sorted(self.model.versions)
        for number, expected in self.model.versions.items():
            version = open_version(self.folder, number=number)
            assert (tag_of(version), [record["n"] for record in open_journal(version).records()]) == expected
        assert open_version(self.folder).number == self.model.live
        assert [problem for problem in verify(self.folder) if "never acknowledged" not in problem] == []


TestSavedFolder = SavedFolder.TestCase
TestSavedFolder.settings = settings(
    max_examples=30, stateful_step_count=12, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.slow
def test_long_sequences():
    run_state_machine_as_test(
        SavedFolder,
        settings=settings(
            max_examples=150, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
