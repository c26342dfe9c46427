"""The engine: one catalogue and one finder, live."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Unpack

from genrail.catalog import Catalog, Interactions
from genrail.catalog.suggesting import Suggester
from genrail.catalog.synonyms import read_synonyms
from genrail.decoding.decoders import Decoder
from genrail.engine.live import LiveEdition, MergeSettings
from genrail.engine.recipes import recipe_of, synonyms_of, with_synonyms
from genrail.errors import CatalogError, QueryError, SettingsError
from genrail.finding import (
    Data,
    Edition,
    Finder,
    FindOptions,
    Gate,
    Progress,
    Recipe,
    Report,
    Trace,
    answer_each,
    raised,
)
from genrail.finding.answering import as_queries, checked
from genrail.finding.finder import with_settings
from genrail.showing import html_table
from genrail.types import Json, Query, QueryOptions, Ranking, Suggestion, silent

if TYPE_CHECKING:
    from genrail.finders.calibrating_new_items import CalibrationSettings
    from genrail.finders.new_item_scores import Calibration
    from genrail.models.language_model import AnyModel
    from genrail.models.text_encoder import Encoder

__all__ = ["Engine"]


class Engine(LiveEdition):
    """Search and recommend from a catalogue.

    Build one with `Engine.build`, or open a saved one with `genrail.load`. An engine may be shared by threads: each
    request works on the edition that was live when it began.

    >>> shop = Catalog.from_items([{"sku": f"s{n}", "name": f"boot {n}", "price": 10 * n} for n in range(20)])
    >>> engine = Engine.build(shop, encoder="hashing", epochs=1)
    >>> ranking = engine.search("boot", k=3, where="price < 40", history=["s1"])
    >>> sorted(ranking.item_ids), ranking.exhausted
    (['s0', 's2', 's3'], False)
    """

    def __init__(self, edition: Edition, merging: MergeSettings | None = None) -> None:
        super().__init__(edition, merging)
        self.gate = Gate()
        self._suggester: Suggester | None = None
        self._suggesting = Lock()

    @classmethod
    def build(
        cls,
        catalog: Any,
        recipe: Recipe | str | None = None,
        *,
        item_id: str | None = None,
        title: str | None = None,
        text: str | Sequence[str] | None = None,
        interactions: Any = None,
        queries: Mapping[str, str] | None = None,
        qrels: Mapping[str, Mapping[str, float]] | None = None,
        model: AnyModel | str | None = None,
        encoder: Encoder | str | None = None,
        hold_out: bool = True,
        synonyms: Any = (),
        seed: int = 0,
        progress: Progress | None = None,
        **settings: object,
    ) -> Engine:
        """Make an engine from a catalogue.

        Args:
            catalog: The items: a `Catalog`, or what `Catalog.of` takes: a path, a list of dictionaries, a Polars,
                pandas or Arrow table, one split of a Hugging Face dataset.
            recipe: How items are found: a recipe, or the name of one (`genrail.finding.kinds()` lists them). None for
                the default, ``fused``, or for ``titles`` where a language `model` is given.
            item_id: Column of the ids; guessed, and not for a `Catalog`.
            title: Column of the titles, likewise.
            text: Further columns that are read, likewise.
            interactions: Who took what, in order: `Interactions`, or what `Interactions.of` takes.
            queries: Query id to words, judged by `qrels`.
            qrels: Query id to item id to grade; items with a grade above 0 are right.
            model: The name or folder of a language model, or a loaded one, which writes titles; with
                ``recipe="codes"`` it learns to write Semantic IDs, with ``recipe="seal"`` it writes n-grams of the
                texts; among several `lanes` it is given to each of these kinds.
            encoder: Text encoder, for recipes that read texts: None for all-MiniLM-L6-v2, a name or folder of any
                sentence-transformers model, "hashing" for the tiny one without weights, or an object with `encode`.
                "words+" before a name puts the words of a text beside its vector, see `WordsBeside`.
            hold_out: Keep each user's last event out of training, so that `genrail evaluate` is honest.
            synonyms: What words of queries stand for, for recipes with a lexical lane: a file, or its lines; see
                `genrail.catalog.read_synonyms`.
            seed: Same seed and input, same engine.
            progress: Called with (stage, done, total).
            settings: Of the recipe, by name, such as ``levels=4`` or ``max_seconds=60``.

        Raises:
            CatalogError: The catalogue is empty.
            SettingsError: No such recipe or setting, or data that it cannot be built from.
            MissingPackageError: A package that the recipe needs is not installed.

        Cost: that of the recipe; see docs/results.md.
        """
        catalog = Catalog.of(catalog, item_id=item_id, title=title, text=text)
        interactions = None if interactions is None else Interactions.of(interactions)
        if not catalog.live.any():
            raise CatalogError("the catalogue has no items; read one with at least one row")
        chosen = recipe_of(recipe, model, settings)
        if chosen.needs_interactions and interactions is None:
            raise SettingsError(
                f"{chosen.kind} learns from interactions alone; give interactions, or build another kind"
            )
        rules = [str(rule) for rule in read_synonyms(synonyms)]
        data = Data(catalog, interactions, queries, qrels, encoder, hold_out, seed)
        finder = chosen.build(data, progress or silent)
        engine = cls(Edition(catalog, with_synonyms(finder, rules) if rules else finder))
        engine._held_out = hold_out or interactions is None
        return engine

    def train(
        self,
        *,
        interactions: Interactions | None = None,
        queries: Mapping[str, str] | None = None,
        qrels: Mapping[str, Mapping[str, float]] | None = None,
        teacher: Engine | None = None,
        hold_out: bool = True,
        seed: int = 0,
        progress: Progress | None = None,
        **settings: object,
    ) -> Report | None:
        """Teach the finder further; requests see the taught one when it is done.

        Args:
            interactions: Who took what, in order.
            queries: Query id to words.
            qrels: Query id to item id to grade; items with a grade above 0 are right.
            teacher: Whose rankings are learnt, with ``recipe="distill"``: an engine over the same items. The lanes of a
                fused engine are taught by one another.
            hold_out: Keep each user's last event out of training.
            seed: Same seed, same model.
            progress: Called with (stage, done, total).
            settings: Of the recipe, to be changed for this training, such as ``max_seconds=60``; one within another by
                its path or the end of it, such as ``recipe="sft"`` of a language model's `FineTuning`.

        Returns:
            What the training did, where the finder tells.

        Raises:
            SettingsError: The finder does not learn, or nothing fits the catalogue.
        """
        with self._writing:
            before = self._edition
            data = Data(before.catalog, interactions, queries, qrels, before.finder.encoder, hold_out, seed)
            if teacher is not None:
                data = data.taught_by(teaching(teacher, before.catalog))
            after = with_settings(before.finder.recipe, settings).train(before.finder, data, progress or silent)
            self._edition = Edition(before.catalog, after)
            self._held_out = self._held_out and (hold_out or interactions is None)
            self._line += 1  # a merge that runs meanwhile is of no use to it
        return after.report

    def training_examples(
        self,
        count: int = 5,
        *,
        interactions: Interactions | None = None,
        queries: Mapping[str, str] | None = None,
        qrels: Mapping[str, Mapping[str, float]] | None = None,
        teacher: Engine | None = None,
        hold_out: bool = True,
        seed: int = 0,
        **settings: object,
    ) -> list[dict[str, object]]:
        """Show what `train` with the same arguments would learn from, and train nothing.

        Args:
            count: So many examples of each source.
            interactions: See `train`.
            queries: See `train`.
            qrels: See `train`.
            teacher: See `train`.
            hold_out: See `train`.
            seed: See `train`; also of the draw.
            settings: See `train`.

        Returns:
            Of each example its source, the prompt as the model reads it, and the right items with their shares.

        Raises:
            SettingsError: The finder is not taught by prompts.
        """
        edition = self._edition
        data = Data(edition.catalog, interactions, queries, qrels, edition.finder.encoder, hold_out, seed)
        if teacher is not None:
            data = data.taught_by(teaching(teacher, edition.catalog))
        return with_settings(edition.finder.recipe, settings).examples(edition.finder, data, count)

    def calibrate_new_items(
        self,
        interactions: Interactions,
        settings: CalibrationSettings | None = None,
        *,
        hold_out: bool = True,
        progress: Progress | None = None,
    ) -> Calibration:
        """Learn from your own interactions how new items compare with others; requests then see it.

        A second model is trained without some items, see `genrail.finders.calibrating_new_items`. The calibration is
        saved with the engine; an engine loaded with ``live=True`` keeps it in its folder once it is saved or merged.

        Args:
            interactions: Who took what, in order.
            settings: How many items and users, and what known items may lose.
            hold_out: Leave each user's last event out, so that `genrail evaluate` stays honest.
            progress: Called with (stage, done, total).

        Raises:
            SettingsError: The model was not trained on histories, or there are too few events or items.

        Cost: that of training once more, and two decodes for each user.
        """
        from genrail.finders.calibrating_new_items import calibrated

        with self._writing:
            before = self._edition
            data = Data(before.catalog, interactions, hold_out=hold_out)
            finder, calibration = calibrated(before.finder, data, settings, progress or silent)
            self._edition = Edition(before.catalog, finder)
            self._line += 1
        return calibration

    def set_synonyms(self, synonyms: Any) -> None:
        """Let words of queries stand for others, from the next request on; nothing is built anew.

        The lexical lane reads them. They are saved with the engine; one loaded with ``live=True`` keeps them in its
        folder once it is saved or merged.

        Args:
            synonyms: In place of those before: a file, or its lines, see `genrail.catalog.read_synonyms`; [] for none.

        Raises:
            CatalogError: A line that is no rule; the synonyms stay as they are.
            SettingsError: The engine has no lexical lane.

        >>> shop = Catalog.from_items([{"sku": "s1", "name": "rubber boot"}, {"sku": "s2", "name": "wool hat"}])
        >>> engine = Engine.build(shop, "bm25")
        >>> engine.set_synonyms(["wellies => rubber boot"])
        >>> engine.search("wellies", k=1)[0].title, engine.synonyms
        ('rubber boot', ('wellies => rubber boot',))
        """
        rules = [str(rule) for rule in read_synonyms(synonyms)]
        with self._writing:
            before = self._edition
            self._edition = Edition(before.catalog, with_synonyms(before.finder, rules))
            self._line += 1  # a merge that runs meanwhile is of no use to it

    # --- what a user asks -------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name the finder, for tables."""
        return self._edition.finder.name

    @property
    def catalog(self) -> Catalog:
        """Give the catalogue as it is now."""
        return self._edition.catalog

    @property
    def synonyms(self) -> tuple[str, ...]:
        """Give what words of queries stand for, as lines."""
        return synonyms_of(self._edition.finder)

    @property
    def encoder(self) -> Encoder | None:
        """Give the text encoder, if the finder has one."""
        return self._edition.finder.encoder

    @property
    def trained_on_everything(self) -> bool:
        """Tell whether training saw every event, so that evaluating on them would flatter."""
        return not (self._held_out and self._edition.finder.held_out)

    @property
    def edition(self) -> Edition:
        """Give the live edition: catalogue and finder."""
        return self._edition

    def __len__(self) -> int:
        return len(self._edition)

    def search(
        self,
        text: str | None = None,
        *,
        history: Sequence[str] = (),
        k: int = 10,
        explain: bool = False,
        decoder: Decoder | None = None,
        lanes: Sequence[str] | None = None,
        **options: Unpack[QueryOptions],
    ) -> Ranking:
        """Find the k best items for words, a past, or both.

        Args:
            text: What is wanted.
            history: Item ids, oldest first.
            k: How many hits, 1 to 1,000.
            explain: Fill `Hit.explanation` and `Ranking.trace`.
            decoder: Another way to write identifiers than the engine's beam: `ExactSettings`, `SampleSettings`,
                `Calibrated`, `Diverse`, or other `BeamSettings`.
            lanes: Names of the lanes of a fused engine that are asked; None for all that the kind of question needs.
            options: What `Query` may ask for besides: ``where`` (a filter), ``offset``, ``sort``, ``min_score``,
                ``boost``, ``pin``, ``facets``, ``fields``, ``highlight``, ``soft_filters``, ``exclude``,
                ``exclude_seen``, ``new_items``.

        Raises:
            QueryError: Nothing was asked, or k is out of range.
            FilterError: The filter cannot be read.

        >>> shop = Catalog.from_items([{"sku": f"s{n}", "name": f"boot {n}", "price": 90 - n} for n in range(20)])
        >>> engine = Engine.build(shop, "bm25")
        >>> cheap = engine.search("boot", k=2, where={"price": {"<": 80}}, sort="price", facets=["price"])
        >>> [hit["price"] for hit in cheap], cheap.facets[0]["least"]
        ([71, 72], 71)
        """
        query = Query(text, history, **options)
        return self.search_batch([query], k, explain=explain, decoder=decoder, lanes=lanes)[0]

    def recommend(
        self,
        history: Sequence[str],
        *,
        k: int = 10,
        explain: bool = False,
        decoder: Decoder | None = None,
        lanes: Sequence[str] | None = None,
        **options: Unpack[QueryOptions],
    ) -> Ranking:
        """Recommend k items to somebody with this past; see `search`."""
        query = Query(None, history, **options)
        return self.search_batch([query], k, explain=explain, decoder=decoder, lanes=lanes)[0]

    def similar(self, item_id: str, *, k: int = 10, **options: Unpack[QueryOptions]) -> Ranking:
        """Find k items for somebody who looks at this one; see `search`.

        Raises:
            QueryError: No item has this id.
        """
        if item_id not in self.catalog:
            raise QueryError(f"no item has the id {item_id!r}; ids are those of the catalogue")
        return self.recommend([item_id], k=k, **options)

    def search_batch(
        self,
        queries: Sequence[Query | str],
        k: int = 10,
        *,
        explain: bool = False,
        decoder: Decoder | None = None,
        lanes: Sequence[str] | None = None,
    ) -> list[Ranking]:
        """Answer several queries together; the answers are those of one at a time.

        Args:
            queries: Each a `Query`, or words.
            k, explain, decoder, lanes: See `search`.

        Raises:
            QueryError: k is out of range, or a query holds nothing that can be used.
            ClosedWorldError: The last gate caught a forbidden item; a bug of ours.
        """
        options = FindOptions(explain, decoder, lanes=tuple(lanes) if lanes is not None else None)
        return raised(answer_each(self._edition, self.gate, as_queries(queries), checked(k), options))

    def suggest(self, typed: str, k: int = 8) -> list[Suggestion]:
        """Complete what somebody types by words, phrases and titles of the catalogue, the most frequent first.

        Cost: the first call sorts the titles (some seconds for a million), later ones take a millisecond.
        """
        with self._suggesting:
            self._suggester = Suggester.of(self.catalog, self._suggester)
        return self._suggester.suggest(typed, k)

    async def asearch(self, text: str | None = None, **options: Any) -> Ranking:
        """Search in a thread, so that an event loop goes on meanwhile; see `search`."""
        return await asyncio.to_thread(self.search, text, **options)

    async def arecommend(self, history: Sequence[str], **options: Any) -> Ranking:
        """Recommend in a thread, so that an event loop goes on meanwhile; see `recommend`."""
        return await asyncio.to_thread(self.recommend, history, **options)

    # --- a saved folder ---------------------------------------------------------------------------------------------

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        encoder: Encoder | None = None,
        live: bool = False,
        merging: MergeSettings | None = None,
    ) -> Engine:
        """Open a saved engine, with the changes that were logged since it was published.

        Args:
            folder: Made by `save` or `genrail build`.
            encoder: The text encoder object, if it is not one that can be loaded by name.
            live: Log every change of this engine in the folder, on the disk before it shows.
            merging: When changes are merged by themselves.

        Raises:
            DamagedError: A file is missing or altered.
            FormatError: Not an engine, or of a newer format.
            FingerprintError: The text encoder or model found here is not the one the engine was built with.
        """
        from genrail.engine.folder import load

        edition, journal = load(Path(folder), encoder)
        engine = cls(edition, merging)
        engine._held_out = bool(journal.version.details.get("held_out", True))
        engine._journal, engine._encoder = (journal if live else None), encoder
        engine._loaded_from = None if live else Path(folder)
        return engine

    def follow(self, item_id: str, ranking: Ranking) -> str:
        """Say how far an item came in a search that was made with ``explain=True``.

        Returns:
            One sentence, such as ``lost at step 3, rank 14 of beam 10``. Of an item with several identifiers it tells
            of one that was finished, or else of its title.

        Raises:
            QueryError: The ranking has no trace, or the item is not in the catalogue.
        """
        if ranking.trace is None:
            raise QueryError("this ranking has no trace; search with explain=True")
        trace: Trace = ranking.trace
        return trace.follow(self._edition.catalog.row(item_id))

    def __repr__(self) -> str:
        parts = ", ".join(self._edition.finder.parts)
        folder = self._loaded_from or (None if self._journal is None else self._journal.version.folder)
        of = f" of {parts}" if parts else ""
        return f"Engine({self.name}{of}; {len(self):,} items{'' if folder is None else f'; {folder}'})"

    def _repr_html_(self) -> str:
        """Write what is inside as a table, for notebooks."""
        rows = [[name, value] for name, value in self.describe().items() if not isinstance(value, Mapping)]
        return html_table(["what", "value"], rows, repr(self))

    def __reduce__(self) -> str:
        raise SettingsError(
            "an engine is not pickled: it holds locks, and nothing of genrail is saved by pickle; save(folder), and "
            "genrail.load(folder) in the other process"
        )

    def describe(self) -> dict[str, Json]:
        """Tell what is inside, in plain values."""
        edition = self._edition
        return {"items": len(edition), "finder": edition.finder.name, **edition.finder.describe()}


def teaching(teacher: Engine, catalog: Catalog) -> Finder:
    """Give the finder of a teacher, whose rows are those of a catalogue.

    Raises:
        SettingsError: It knows other items, or in another order.
    """
    if teacher.catalog.item_ids != catalog.item_ids:
        raise SettingsError(
            f"the teacher has {len(teacher)} items and the engine {int(catalog.live.sum())}, or in another order; "
            "build both from the same file"
        )
    return teacher.edition.finder
