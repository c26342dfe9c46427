"""A live catalogue: add, update, remove, merge, publish and roll back while requests go on."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING

from genrail.catalog import Catalog
from genrail.engine.revising import grown, revise, revised
from genrail.errors import SettingsError
from genrail.finding import Added, Change, Edition
from genrail.types import silent

if TYPE_CHECKING:
    from genrail.finding import Progress
    from genrail.models.text_encoder import Encoder
    from genrail.storage import Journal, Version

__all__ = ["LiveEdition", "MergeSettings"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MergeSettings:
    """Say when the changes since the last merge are merged by themselves, in a thread of their own.

    Args:
        share: Changes, as a share of the items. At 0.02 a step takes 1.1 to 1.8 times as long as without changes
            (docs/results.md); a published merge writes the whole engine, ten times what has changed at 0.1.
        at_least: Fewer changes than this never start a merge: they cost next to nothing.
        publish: Publish a merge in the folder of an engine that was loaded live, which empties its log.
        automatic: False leaves merging to `Engine.merge`.

    Raises:
        SettingsError: A share or a number below 0.
    """

    share: float = 0.1
    at_least: int = 10_000
    publish: bool = True
    automatic: bool = True

    def __post_init__(self) -> None:
        if not (self.share >= 0 and self.at_least >= 0):
            raise SettingsError(f"share is {self.share} and at_least {self.at_least}; give 0 or more")

    def due(self, edition: Edition) -> bool:
        """Tell whether a finder has gathered enough changes."""
        changes = edition.finder.pending
        return changes > self.at_least and changes > self.share * len(edition)


class LiveEdition:
    """Hold the edition that requests see, and change it; what `Engine` is underneath.

    A change makes the next edition beside the live one, logs it if the engine follows a folder, and swaps one
    reference. Requests take the reference once, so they never wait and never see two editions. Writers wait for each
    other.
    """

    def __init__(self, edition: Edition, merging: MergeSettings | None = None) -> None:
        self._edition = edition
        self._merging = merging or MergeSettings()
        self._writing = Lock()  # one change at a time
        self._merge_lock = Lock()  # one merge at a time, so that memory holds at most two indexes
        self._merger: Thread | None = None
        self._since: list[tuple[Catalog, Change]] = []  # changes that a running merge does not know yet
        self._held_out = True  # was each user's last event kept out of what was learnt
        self._line = 0  # rises when an edition goes live that did not come from the one before
        self._journal: Journal | None = None
        self._published: Version | None = None  # by this engine, which has not read its log yet
        self._encoder: Encoder | None = None
        self._loaded_from: Path | None = None  # of a folder that changes do not go to

    def add(self, items: Catalog | Iterable[Mapping[str, object]], *, progress: Progress | None = None) -> None:
        """Add items; the next request can find them, without retraining.

        An engine that was loaded with ``live=True`` logs the change in its folder before it shows.

        Raises:
            CatalogError: An id is already in the catalogue, or there twice; nothing is added.
            StorageError: The change cannot be logged; nothing is added.
        """
        with self._writing:
            self._begin_change()
            before = self._edition
            catalog = before.catalog.add(items if isinstance(items, Catalog) else list(items))
            rows = range(len(before.catalog), len(catalog))
            reading = before.finder.read(catalog, rows, progress or silent)
            change = Change((Added.of(catalog, rows, reading),)) if rows else Change()
            after = grown(before, catalog, change)
            if self._journal is not None:
                added = catalog.records(rows)
                self._journal.append({"change": "add", "items": added, "reading": reading})
            self._go_live(after, change)
        self._merge_if_due()

    def update(self, items: Catalog | Iterable[Mapping[str, object]], *, progress: Progress | None = None) -> None:
        """Change titles and attributes of items; the next request sees all of the change or none of it.

        Columns that an item does not give keep their values. An item keeps its identifier, and what the model learned
        about it, unless the text that the encoder reads (title and text columns) changed: then it gets a new row and
        an identifier for the new text, as if it were removed and added in one step.

        An engine that was loaded with ``live=True`` logs the change in its folder before it shows.

        Args:
            items: Dictionaries with the id and what is new, or a catalogue.
            progress: Called with (stage, done, total).

        Raises:
            CatalogError: An id is not in the catalogue, or there twice; nothing is changed.
            StorageError: The change cannot be logged; nothing is changed.

        Cost: a copy of the columns; 13 ms for one of 10^6 items with three columns. Change many in one call.
        """
        with self._writing:
            self._begin_change()
            before = self._edition
            revision = revise(before.catalog, items)
            rows = revision.rows
            reading = before.finder.read(revision.catalog, rows, progress or silent) if rows else None
            after, change = revised(before, revision, reading)
            if self._journal is not None:
                self._journal.append({"change": "update", "items": revision.given, "reading": reading})
            self._go_live(after, change)
        self._merge_if_due()

    def remove(self, item_ids: Sequence[str]) -> None:
        """Remove items; no request that starts afterwards can return them.

        An engine that was loaded with ``live=True`` logs the change in its folder before it shows.

        Raises:
            CatalogError: An id is not in the catalogue; nothing is removed.
            StorageError: The change cannot be logged; nothing is removed.
        """
        with self._writing:
            self._begin_change()
            before = self._edition
            catalog = before.catalog.remove(item_ids)
            change = Change(gone=before.catalog.rows(item_ids))
            after = grown(before, catalog, change)
            if self._journal is not None:
                self._journal.append({"change": "remove", "item_ids": [str(item_id) for item_id in item_ids]})
            self._go_live(after, change)
        self._merge_if_due()

    def _begin_change(self) -> None:
        """Take over what was published, and say once where a change of a loaded engine does not go to."""
        self._follow()
        if self._loaded_from is not None:
            folder, self._loaded_from = self._loaded_from, None
            warnings.warn(
                f"this change stays in memory: {folder} was loaded without live=True, so it keeps nothing; "
                "save(...) writes it, genrail.load(folder, live=True) logs each change",
                UserWarning,
                stacklevel=3,
            )

    def _go_live(self, after: Edition, change: Change) -> None:
        """Let the next request see an edition, and a merge that runs meanwhile know of the change."""
        self._edition = after
        if self._merge_lock.locked():
            self._since.append((after.catalog, change))

    # --- merging ----------------------------------------------------------------------------------------------------

    def merge(self, *, publish: bool = True) -> None:
        """Merge what was added and removed into one index; the answers stay the same.

        Requests and changes go on meanwhile; changes that arrive are kept. While the result is published, changes wait
        and requests do not. Past a share of the items this happens by itself, see `MergeSettings`.

        Args:
            publish: If the engine was loaded with ``live=True``, publish the merged engine as the next version of its
                folder, whose log begins empty.

        Raises:
            StorageError: It cannot be published; the folder keeps the earlier version and its log.

        Cost: one pass over the index, memory for a second copy of it; publishing writes the whole engine.
        """
        with self._merge_lock:
            with self._writing:
                before, line = self._edition, self._line
                self._since = []
            compacted = before.finder.compact()
            with self._writing:
                if self._line != line:
                    return  # another version went live, and this merge is of no use to it
                for catalog, change in self._since:
                    compacted = compacted.grow(catalog, change)
                self._edition = Edition(self._edition.catalog, compacted)
                if publish and self._journal is not None:
                    self._publish(self._journal.version.folder, keep=2)

    def _merge_if_due(self) -> None:
        with self._writing:
            running = self._merger is not None and self._merger.is_alive()
            if running or not (self._merging.automatic and self._merging.due(self._edition)):
                return
            self._merger = Thread(target=self._merge_in_background, name="genrail merge")
            self._merger.start()

    def _merge_in_background(self) -> None:
        try:
            self.merge(publish=self._merging.publish)
        except Exception:
            # Nothing is lost: the log holds the changes, the next one tries again.
            _log.exception("merging in the background failed; requests and changes go on")

    def wait(self) -> None:
        """Wait until a merge that runs in the background, if any, is done."""
        merger = self._merger
        if merger is not None:
            merger.join()

    # --- a saved folder ---------------------------------------------------------------------------------------------

    def save(self, folder: str | Path, *, keep: int = 2) -> None:
        """Publish the engine in a folder: whole, or not at all; an earlier version there stays until this one is whole.

        Args:
            folder: New, empty, or saved by genrail.
            keep: How many versions stay, this one included; `rollback` can go back to any of them.

        Raises:
            StorageError: The disk is full, another process writes, or the folder is not ours; the old version stays.
        """
        with self._writing:
            self._publish(Path(folder), keep)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        token: str | None = None,
        message: str = "Push what a language model was taught with genrail",
    ) -> str:
        """Upload what `train` taught a language model to the Hugging Face hub: the adapter, or else all weights.

        Beside the weights stands a model card: base and its terms, data, recipe and figures. The catalogue stays here.

        Args:
            repo_id: Name there, such as ``you/shop-titles``; made if there is none.
            private: Make it private, where it is new.
            token: Of the hub; None for the one that you are logged in with.
            message: Of the commit.

        Returns:
            The address.

        Raises:
            SettingsError: No language model of this engine was taught here.
            ApiError: The hub does not take it.
        """
        from genrail.engine.hub import push

        return push(self._edition.finder, repo_id, private, token, message)

    def _publish(self, folder: Path, keep: int) -> None:
        from genrail.engine.folder import save

        self._follow()
        self._published = save(self._edition, folder, self._journal, keep, self._held_out)
        self._follow()

    def _follow(self) -> None:
        """Go on with the log of the version that this engine published; tried again where the disk failed."""
        from genrail.engine.folder import follow

        if self._published is not None:
            self._edition, self._journal = follow(self._edition, self._published)
            self._published = None

    def standing(self) -> tuple[Edition, Version | None, int]:
        """Tell what is live: the edition, the version of the folder that it follows, and the changes logged since.

        Waits for a change that is being made.
        """
        with self._writing:
            if self._journal is None:
                return self._edition, None, 0
            return self._edition, self._journal.version, len(self._journal)

    def refresh(self) -> None:
        """Take over what other processes logged or published in the folder that this engine follows.

        Raises:
            SettingsError: The engine was not loaded with ``live=True``.
            StorageError: What went live is not whole; the engine stays as it is.
        """
        from genrail.engine.folder import refreshed

        with self._writing:
            if self._journal is None:
                raise SettingsError("this engine follows no folder; open it with genrail.load(folder, live=True)")
            before = self._journal
            self._edition, self._journal = refreshed(self._edition, before, self._encoder)
            if self._journal is not before:
                self._published = None
                self._line += 1

    def rollback(self, number: int | None = None) -> int:
        """Go back to an earlier version of the folder that this engine follows, with the changes logged on it.

        The version is read and checked first; then it is made the live one in the folder, and the next request sees it.
        Nothing is removed.

        Args:
            number: Version; None for the one before the live one.

        Returns:
            The number of the version.

        Raises:
            SettingsError: The engine was not loaded with ``live=True``.
            StorageError: No such version, or it is not whole; the live one stays.
        """
        from genrail.engine.folder import roll_back

        with self._writing:
            if self._journal is None:
                raise SettingsError(
                    "this engine follows no folder; open it with genrail.load(folder, live=True), or use the command "
                    "genrail rollback FOLDER"
                )
            self._edition, self._journal = roll_back(self._journal.version.folder, number, self._encoder)
            self._published = None
            self._line += 1
            return self._journal.version.number
