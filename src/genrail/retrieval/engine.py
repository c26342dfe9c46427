"""The engine: catalogue, identifiers, constraint and model, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrail.catalog import Catalog
from genrail.decoding import BeamSettings, Decoded
from genrail.errors import QueryError
from genrail.identifiers.several import spelled
from genrail.retrieval.asking import checked_ranking, doubted
from genrail.retrieval.decoders import Decoder
from genrail.retrieval.edition import Edition
from genrail.retrieval.gate import Gate
from genrail.retrieval.new_items import decode_with_new_items
from genrail.retrieval.requests import Request, resolve
from genrail.retrieval.updates import LiveEdition, MergeSettings, silent
from genrail.types import NewItems, Query, Ranking

if TYPE_CHECKING:
    from genrail.catalog import Interactions
    from genrail.models.text_encoder import Encoder
    from genrail.retrieval.calibrating_new_items import CalibrationSettings
    from genrail.retrieval.language_model_lane import LanguageModelSettings
    from genrail.retrieval.new_item_scores import Calibration
    from genrail.training.native import TrainingReport

__all__ = ["Edition", "Engine", "Progress"]

Progress = Callable[[str, int, int], None]
MAX_K = 1000  # reliability.md D


class Engine(LiveEdition):
    """Search and recommend from a catalogue with a model that writes identifiers.

    Build one with `Engine.build`, or open a saved one with `genrail.load`. An engine may be shared by threads: each
    request works on the edition that was live when it began.

    >>> shop = Catalog.from_items([{"sku": f"s{n}", "name": f"boot {n}", "price": 10 * n} for n in range(20)])
    >>> engine = Engine.build(shop, encoder="hashing", max_seconds=1)
    >>> ranking = engine.search("boot", k=3, where="price < 40", history=["s1"])
    >>> sorted(ranking.item_ids), ranking.exhausted
    (['s0', 's2', 's3'], False)
    """

    def __init__(
        self, edition: Edition, beam: BeamSettings | None = None, merging: MergeSettings | None = None
    ) -> None:
        super().__init__(edition, beam or BeamSettings(), merging)
        self.gate = Gate()

    @classmethod
    def build(
        cls,
        catalog: Catalog,
        *,
        interactions: Interactions | None = None,
        model: Any = None,
        language_model: LanguageModelSettings | None = None,
        encoder: Any = None,
        levels: int = 3,
        codes: int | None = None,
        pseudo_queries: int = 4,
        hold_out: bool = True,
        max_seconds: float | None = None,
        seed: int = 0,
        beam: BeamSettings | None = None,
        progress: Progress | None = None,
    ) -> Engine:
        """Make an engine from a catalogue.

        Without `model`: Semantic IDs and the native model, trained here on the catalogue's text and, if given, on
        interactions. With `model`: a Hugging Face language model that writes titles, not trained.

        Args:
            catalog: The items.
            interactions: Who took what, in order.
            model: None for the native lane; else the name or folder of a causal or seq2seq checkpoint, or a loaded one.
            language_model: With `model`: prompt, examples, catalogue facts, and how many identifiers an item has.
            encoder: Text encoder of the native lane: None for all-MiniLM-L6-v2, a name or folder of any
                sentence-transformers model, "hashing" for the tiny one without weights, or an object with `encode`.
            levels: Codes of a Semantic ID before the one that tells duplicates apart.
            codes: Size of a codebook; None for 256, or a quarter of the items where there are fewer than 1,024.
            pseudo_queries: Queries made up from each item's text, so that search works without a log; with fewer the
                build is faster.
            hold_out: Keep each user's last event out of training, so that `genrail evaluate` is honest.
            max_seconds: Stop training after this long and keep the best so far.
            seed: Same seed and input, same engine.
            beam: Width and score of the decoder.
            progress: Called with (stage, done, total).

        Raises:
            CatalogError: The catalogue is empty.
            MissingPackageError: torch or transformers is not installed.

        Cost: native lane about a minute per 10,000 items on two cores without interactions; see docs/results.md.
        """
        from genrail.retrieval.building import BuildSettings, build_language_model_edition, build_native_edition

        report = progress or silent
        if model is None:
            settings = BuildSettings(levels, codes, pseudo_queries, hold_out, max_seconds, seed)
            edition = build_native_edition(catalog, interactions, encoder, settings, report)
        else:
            edition = build_language_model_edition(catalog, model, language_model, report)
        return cls(edition, beam)

    def train(
        self,
        *,
        interactions: Interactions | None = None,
        queries: Mapping[str, str] | None = None,
        qrels: Mapping[str, Mapping[str, float]] | None = None,
        hold_out: bool = True,
        max_seconds: float | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> TrainingReport:
        """Train the native model further; requests see the trained one when it is done.

        Args:
            interactions: Who took what, in order.
            queries: Query id to words.
            qrels: Query id to item id to grade; items with a grade above 0 are right.
            hold_out: Keep each user's last event out of training.
            max_seconds: Stop after this long.
            seed: Same seed, same model.
            progress: Called with (stage, done, total).

        Raises:
            SettingsError: The engine writes titles with a language model, or nothing fits the catalogue.
        """
        from genrail.retrieval.building import BuildSettings, train_edition

        settings = BuildSettings(hold_out=hold_out, max_seconds=max_seconds, seed=seed)
        with self._writing:
            self._edition, report = train_edition(
                self._edition, interactions, queries, qrels, settings, progress or silent
            )
        return report

    def calibrate_new_items(
        self,
        interactions: Interactions,
        settings: CalibrationSettings | None = None,
        *,
        hold_out: bool = True,
        progress: Progress | None = None,
    ) -> Calibration:
        """Learn from your own interactions how new items compare with others; requests then see it.

        A second model is trained without some items, see `genrail.retrieval.calibrating_new_items`. The calibration is
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
        from genrail.retrieval.building import calibrated_edition
        from genrail.retrieval.calibrating_new_items import CalibrationSettings

        chosen = settings or CalibrationSettings()
        with self._writing:
            self._edition, calibration = calibrated_edition(
                self._edition, interactions, chosen, self._beam, hold_out, progress or silent
            )
        return calibration

    # --- what a user asks -------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name the lane, for tables."""
        return self._edition.lane.name

    @property
    def catalog(self) -> Catalog:
        """Give the catalogue as it is now."""
        return self._edition.catalog

    @property
    def encoder(self) -> Encoder | None:
        """Give the text encoder, if the lane has one."""
        return self._edition.lane.encoder

    @property
    def trained_on_everything(self) -> bool:
        """Tell whether training saw every event, so that evaluating on them would flatter."""
        return not getattr(self._edition.lane, "held_out", True)

    @property
    def edition(self) -> Edition:
        """Give the parts of the live edition, for inspection."""
        return self._edition

    def __len__(self) -> int:
        return len(self._edition.index)

    def search(
        self,
        text: str | None = None,
        *,
        history: Sequence[str] = (),
        k: int = 10,
        where: str | None = None,
        exclude_seen: bool = True,
        explain: bool = False,
        decoder: Decoder | None = None,
        new_items: NewItems = "auto",
    ) -> Ranking:
        """Find the k best items for words, a past, or both.

        Args:
            text: What is wanted.
            history: Item ids, oldest first.
            k: How many hits, 1 to 1,000.
            where: Filter over attributes; k allowed items come back whenever they exist.
            exclude_seen: Leave the items of the history out.
            explain: Fill `Hit.explanation` and `Ranking.trace`.
            decoder: Another way to find items than the engine's beam: `ExactSettings`, `SampleSettings`, `Calibrated`,
                `Diverse`, or other `BeamSettings`.
            new_items: How items added since the training are mixed in: ``auto`` (for a history without words, as far as
                it costs the others little), ``off``, or a share of the k hits. See `calibrate_new_items`.

        Raises:
            QueryError: Nothing was asked, or k is out of range.
            FilterError: The filter cannot be read.
        """
        query = Query(text, history, where=where, exclude_seen=exclude_seen, new_items=new_items)
        return self.search_batch([query], k, explain=explain, decoder=decoder)[0]

    def recommend(
        self,
        history: Sequence[str],
        *,
        k: int = 10,
        where: str | None = None,
        exclude_seen: bool = True,
        explain: bool = False,
        decoder: Decoder | None = None,
        new_items: NewItems = "auto",
    ) -> Ranking:
        """Recommend k items to somebody with this past; see `search`."""
        query = Query(None, history, where=where, exclude_seen=exclude_seen, new_items=new_items)
        return self.search_batch([query], k, explain=explain, decoder=decoder)[0]

    def search_batch(
        self, queries: Sequence[Query], k: int = 10, *, explain: bool = False, decoder: Decoder | None = None
    ) -> list[Ranking]:
        """Answer several queries in one decode; the answers are those of one at a time.

        Raises:
            QueryError: k is out of range, or a query holds nothing that can be used.
            ClosedWorldError: The last gate caught a forbidden item; a bug of ours.
        """
        if not 1 <= k <= MAX_K:
            raise QueryError(f"k is {k}; give a number from 1 to {MAX_K}")
        edition = self._edition
        requests = [
            doubted(resolve(query, edition.catalog, edition.index, edition.filters), edition) for query in queries
        ]
        decoded = self._decode(edition, requests, k, explain, decoder)
        return [
            checked_ranking(edition, self.gate, request, answer, explain)
            for request, answer in zip(requests, decoded, strict=True)
        ]

    def _decode(
        self, edition: Edition, requests: list[Request], k: int, explain: bool, decoder: Decoder | None
    ) -> list[Decoded]:
        if not requests:
            return []
        contexts = edition.lane.contexts(requests, edition.catalog)
        return decode_with_new_items(edition, requests, contexts, decoder or self._beam, k, trace=explain)

    # --- a saved folder ---------------------------------------------------------------------------------------------

    @classmethod
    def load(
        cls, folder: str | Path, *, encoder: Any = None, live: bool = False, merging: MergeSettings | None = None
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
        from genrail.retrieval.folder import load

        edition, beam, journal = load(Path(folder), encoder)
        engine = cls(edition, beam, merging)
        engine._journal, engine._encoder = (journal if live else None), encoder
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
        row = self._edition.catalog.row(item_id)
        [spelled_row] = spelled(self._edition.table, [row])
        sequences = spelled_row if isinstance(spelled_row[0], list) else [spelled_row]
        stories: list[str] = [ranking.trace.follow(sequence) for sequence in sequences]
        return next((story for story in stories if story.startswith("finished")), stories[0])

    def spell(self, prefix: Sequence[int]) -> str:
        """Say what the beginning of an identifier stands for: its text, or an item below it."""
        edition = self._edition
        return edition.lane.spell(prefix, edition.catalog, edition.table)

    def describe(self) -> dict[str, Any]:
        """Tell what is inside, in plain values."""
        edition = self._edition
        return {
            "items": len(edition.index),
            "lane": edition.lane.name,
            "identifier_vocabulary": edition.table.vocab_size,
            "beam_width": self._beam.width,
            **edition.lane.describe(),
        }
