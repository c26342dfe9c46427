"""Finders whose model writes the identifiers of items, kept on existing ones by an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from genrail.catalog import Catalog
from genrail.constraints import warm_up
from genrail.constraints.compressed import CompressedTrie
from genrail.constraints.index import GrowingIndex, Subset
from genrail.constraints.segments import LiveTrie
from genrail.decoding import BeamSettings, Decoded
from genrail.decoding.decoders import Decoder, decode
from genrail.decoding.empty_scores import EmptyScores
from genrail.decoding.summing import Combine
from genrail.decoding.trace import DecodeTrace, TracedStep
from genrail.errors import FingerprintError, SettingsError
from genrail.finding import Change, Finder, FindOptions, Found, Json, Progress, Recipe, Report, Request, Searching
from genrail.finding.kept import Kept
from genrail.identifiers.several import load_identifiers
from genrail.identifiers.table import Identifiers
from genrail.models.language_model import AnyModel
from genrail.showing import html_table
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.models.causal import CausalModel
    from genrail.models.encoders import LazyEncoder
    from genrail.models.text_encoder import Encoder
    from genrail.training.pairs import Pair

__all__ = ["Generative", "RailTrace", "Spelling", "generative_part", "live_index"]

Rows = npt.NDArray[np.int64]


class Spelling(Protocol):
    """Say how a model reads requests and by which identifiers it calls items: all that tells one family from another.

    A value, like the finder that holds it. Subclass it to inherit what most families share.
    """

    name: str
    """For tables and people."""

    model: AnyModel
    """A `LanguageModel`, which writes the identifiers; what it reads is the family's own affair."""

    encoder: LazyEncoder | None
    """The text encoder, if there is one."""

    held_out: bool
    """See `Finder.held_out`."""

    def contexts(self, requests: Sequence[Request], catalog: Catalog) -> Sequence[object]:
        """Make what the model reads, one per request."""
        ...

    def extend(self, catalog: Catalog, table: Any, change: Change) -> tuple[Self, Identifiers]:
        """Give the rows that a change added identifiers, without retraining; those of earlier rows stay."""
        ...

    def spell(self, prefix: Sequence[int], catalog: Catalog, table: Any) -> str:
        """Say what a prefix stands for, to people."""
        ...

    def save(self, folder: Path) -> dict[str, Json]:
        """Write the model and what goes with it; give the details for the manifest."""
        ...

    @classmethod
    def load(cls, folder: Path, details: JsonObject, catalog: Catalog, encoder: Encoder | None) -> Self:
        """Read what `save` wrote."""
        ...

    # --- what most families share -------------------------------------------------------------------------------

    def read(self, catalog: Catalog, rows: range, progress: Progress) -> Json:
        """Compute what `extend` needs of new rows, as `Finder.read`."""
        return None

    def warnings(self, request: Request) -> tuple[str, ...]:
        """Say what of a request the model does not read."""
        return ()

    def empty_context(self) -> object:
        """Give the context of a request that says nothing, for `Calibrated`; None where there is no such thing."""
        return None

    def empty_scores(self, trie: CompressedTrie) -> EmptyScores | None:
        """Give what identifiers have under the empty context, for `Calibrated`; None where that is not kept."""
        return None

    @property
    def combine(self) -> Combine:
        """Say how several identifiers of an item make one score."""
        return "best"

    @property
    def longest_history(self) -> int:
        """Give how many items of a history are read."""
        return 20

    @property
    def language_model(self) -> CausalModel:
        """Give the causal language model that writes, with its whole vocabulary; for fine-tuning.

        Raises:
            SettingsError: This family has none.
        """
        raise SettingsError(f"{self.name} is not fine-tuned as a language model; kinds that are: titles, codes")

    def with_language_model(self, model: CausalModel) -> Self:
        """Ask another language model, of the same vocabulary, in the same words."""
        return self

    def aligned(self, pair: Pair, catalog: Catalog, table: Any) -> tuple[list[int], list[int]]:
        """Render a task that joins codes and words: the prompt, and what should follow where that is no item.

        Raises:
            SettingsError: This family has no codes.
        """
        raise SettingsError(f"recipe 'align' joins codes and words, and {self.name} has no codes; give 'sft'")

    def in_words(self, trie: CompressedTrie) -> CompressedTrie:
        """Write identifiers as tokens of the language model's whole vocabulary."""
        return trie

    def changed(self) -> None:
        """Forget what was read of the model before its weights changed."""
        return

    @property
    def reads_words(self) -> bool:
        """Tell whether the model reads words."""
        return True

    @property
    def reads_histories(self) -> bool:
        """Tell whether the model reads histories."""
        return True

    def describe(self) -> dict[str, Json]:
        """Tell what this is, in plain values."""
        return {}


class Generative(Searching, Finder):
    """Let a model write identifiers of allowed items, and find the most probable ones.

    Args:
        catalog: The items.
        spelling: The model, how it is asked, and how items are called.
        table: The identifiers of each row.
        index: Keeps the model on the identifiers of live items.
        recipe: What made this.
        beam: How to search.
        report: Of the last training in this process.
    """

    index_kind: ClassVar[type[GrowingIndex]] = LiveTrie
    """What keeps the model on identifiers; a family from outside may bring its own."""

    def __init__(
        self,
        catalog: Catalog,
        spelling: Spelling,
        table: Identifiers,
        index: GrowingIndex,
        recipe: Recipe,
        beam: BeamSettings | None = None,
        report: Report | None = None,
    ) -> None:
        self.catalog = catalog
        self.spelling = spelling
        self.table = table
        self.index = index
        self.recipe = recipe
        self.beam = beam or BeamSettings()
        self.name = spelling.name
        self._report = report
        self._subsets: Kept[Subset] = Kept(lambda subset: int(subset.nbytes))

    def replaced(self, **parts: Any) -> Self:
        """Make the same finder with other parts."""
        names = ("catalog", "spelling", "table", "index", "recipe", "beam")
        return self.of(**{**{name: getattr(self, name) for name in names}, "report": self._report, **parts})

    @classmethod
    def of(cls, **parts: Any) -> Self:
        """Make a finder from its parts, by name; for families whose constructor takes other things."""
        return cls(**parts)

    # --- questions ----------------------------------------------------------------------------------------------

    def find(self, requests: Sequence[Request], k: int, options: FindOptions) -> list[Found]:
        """Decode all requests together; see `Finder.find`.

        Raises:
            SettingsError: A decoder that this model cannot be asked with.
        """
        contexts = self.spelling.contexts(requests, self.catalog)
        return [
            self._found(request, decoded, trace, options)
            for request, (decoded, trace) in zip(requests, self._answers(requests, contexts, k, options), strict=True)
        ]

    def _answers(
        self, requests: Sequence[Request], contexts: Sequence[object], k: int, options: FindOptions
    ) -> list[tuple[Decoded, RailTrace | None]]:
        decoded = self.decode(contexts, [self.subset_of(request) for request in requests], k, options)
        return [(one, self._traced([one.trace])) for one in decoded]

    def decode(
        self, contexts: Sequence[object], subsets: Sequence[Subset | None], k: int, options: FindOptions
    ) -> list[Decoded]:
        """Find the k best identifiers of each context within a subset."""
        decoder = self.decoder(options)
        return decode(decoder, self.spelling, contexts, self.index, subsets, k, options.explain, options.before_step)

    def decoder(self, options: FindOptions) -> Decoder:
        """Give the decoder that a request will be answered with."""
        decoder = options.decoder or self.beam
        if isinstance(decoder, BeamSettings):
            width, meaning = options.width or decoder.width, options.meaning or decoder.meaning
            return replace(decoder, width=width, meaning=meaning)
        return decoder

    def subset_of(self, request: Request) -> Subset | None:
        """Compile what a request allows; None where that is every live item."""
        subset: Subset | None = None
        if request.condition is not None:
            found = self._subsets.find(request.condition)
            if found is None:
                found = self._subsets.keep(request.condition, self.index.subset(request.filtered))
            subset = found
        return self.index.without(request.excluded, subset) if request.excluded.size else subset

    def _traced(self, traces: Sequence[DecodeTrace | None]) -> RailTrace | None:
        known = tuple(trace for trace in traces if trace is not None)
        return RailTrace(known, self.spelling, self.catalog, self.table) if known else None

    def _found(self, request: Request, decoded: Decoded, trace: RailTrace | None, options: FindOptions) -> Found:
        told = tuple({"identifier": list(tokens)} for tokens in decoded.tokens) if options.explain else None
        warnings = self.spelling.warnings(request)
        return Found(decoded.rows, decoded.scores, decoded.log_probabilities, told, trace, warnings)

    # --- changes ------------------------------------------------------------------------------------------------

    def read(self, catalog: Catalog, rows: range, progress: Progress) -> Json:
        """Compute what new rows need beyond their text; see `Finder.read`."""
        return self.spelling.read(catalog, rows, progress)

    def grow(self, catalog: Catalog, change: Change) -> Self:
        """Give added rows identifiers by the frozen rules, and take removed ones out of the index."""
        spelling, table, index = self.spelling, self.table, self.index
        if change.added:
            spelling, table = spelling.extend(catalog, table, change)
            new = table.part(change.rows)
            index = index.add_flat(new.tokens, new.offsets, new.owners)
        if len(change.gone):
            index = index.remove(change.gone)
        return self.replaced(catalog=catalog, spelling=spelling, table=table, index=index)

    @property
    def pending(self) -> int:
        """Count what a merge would tidy up: identifiers of the new segment, and removed ones of both."""
        return self.index.pending

    def compact(self) -> Self:
        """Merge the segments of the index.

        Cost: one pass over the index, memory for a second copy of it.
        """
        return self.replaced(index=self.index.merged())

    # --- a saved folder -----------------------------------------------------------------------------------------

    def save(self, folder: Path) -> dict[str, Json]:
        """Write identifiers, index and model."""
        for room in ("identifiers", "trie"):
            (folder / room).mkdir()
        self.table.save(folder / "identifiers")
        self.index.save(folder / "trie")
        details = self.spelling.save(folder)
        return {**details, "identifiers": self.table.fingerprint, "beam": asdict(self.beam)}

    @classmethod
    def load(cls, folder: Path, details: JsonObject, catalog: Catalog, encoder: Encoder | None = None) -> Self:
        """Read what `save` wrote.

        Raises:
            FingerprintError: The parts do not belong together.
        """
        raise NotImplementedError  # each family says which spelling it loads, by `opened`

    @classmethod
    def opened(
        cls,
        folder: Path,
        details: Mapping[str, Any],
        catalog: Catalog,
        encoder: Encoder | None,
        spelling: type[Spelling],
        recipe: Recipe,
    ) -> Self:
        """Read what `save` wrote, with a family's spelling."""
        table = load_identifiers(folder / "identifiers")
        if table.fingerprint != details["identifiers"]:
            raise FingerprintError(
                f"the identifiers in {folder} are {table.fingerprint}, the manifest says {details['identifiers']}; "
                "restore the folder"
            )
        index = cls.index_kind.load(folder / "trie")
        renumber = len(table) < index.row_count == len(table.owners)  # the trie numbered identifiers once, not items
        if isinstance(index, LiveTrie) and renumber:
            index = index.renamed(table.owners)
        made = spelling.load(folder, dict(details), catalog, encoder)
        beam = BeamSettings(**details["beam"])
        return cls.of(catalog=catalog, spelling=made, table=table, index=index, recipe=recipe, beam=beam)

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def reach(self) -> int | None:
        """A beam search gives as many rows as it has beams."""
        return self.beam.width

    @property
    def reads_words(self) -> bool:
        """See `Finder.reads_words`."""
        return self.spelling.reads_words

    @property
    def reads_histories(self) -> bool:
        """See `Finder.reads_histories`."""
        return self.spelling.reads_histories

    @property
    def held_out(self) -> bool:
        """See `Finder.held_out`."""
        return self.spelling.held_out

    @property
    def encoder(self) -> Encoder | None:
        """Give the text encoder, if there is one."""
        return self.spelling.encoder

    @property
    def report(self) -> Report | None:
        """See `Finder.report`."""
        return self._report

    def warm_up(self) -> None:
        """Compile the kernels of the index, once per machine."""
        warm_up(vocab_size=self.index.vocab_size)

    def describe(self) -> dict[str, Json]:
        """Tell identifiers, model and beam."""
        return {
            "identifier_vocabulary": self.table.vocab_size,
            "beam_width": self.beam.width,
            **self.spelling.describe(),
        }


@dataclass(frozen=True)
class RailTrace:
    """Tell how an answer was written: the steps of the decode, and how far an item came.

    Args:
        traces: Of the decodes that the answer was made of; an item is looked for in each of them.
        spelling: Knows what prefixes stand for.
        catalog: The items.
        table: Their identifiers.
    """

    traces: tuple[DecodeTrace, ...]
    spelling: Spelling
    catalog: Catalog
    table: Identifiers

    def __repr__(self) -> str:
        return f"RailTrace({len(self.steps)} steps, {len(self.steps[0].beams) if self.steps else 0} beams at first)"

    def _repr_html_(self) -> str:
        """Write the steps as a table, for notebooks: how many beams, and what the first that stays stands for."""
        rows = [
            [number, len(step.beams), len(step.kept), self.spell(step.kept[0]) if step.kept else ""]
            for number, step in enumerate(self.steps, start=1)
        ]
        return html_table(["step", "beams", "kept", "first"], rows)

    @property
    def steps(self) -> Sequence[TracedStep]:
        """Give the steps of the first decode."""
        return self.traces[0].steps

    def follow(self, row: int) -> str:
        """Say how far an item came, in one sentence such as ``lost at step 3, rank 14 of beam 10``.

        Of an item with several identifiers, or that several decodes looked for, it tells of where it came furthest.
        """
        stories = [trace.follow(sequence.tolist()) for trace in self.traces for sequence in self.table.sequences(row)]
        for beginning in ("finished", "lost", "open"):
            for story in stories:
                if story.startswith(beginning):
                    return story
        return stories[0]

    def spell(self, prefix: Sequence[int]) -> str:
        """Say what the beginning of an identifier stands for."""
        return self.spelling.spell(prefix, self.catalog, self.table)

    def identifier(self, row: int) -> list[int]:
        """Give the tokens of a row's (first) identifier."""
        tokens: list[int] = self.table.sequence(row).tolist()
        return tokens

    def to_dict(self, top: int = 10) -> dict[str, Json]:
        """Turn the steps of the first decode into plain values."""
        return self.traces[0].to_dict(top)


def live_index(
    catalog: Catalog, table: Identifiers, progress: Progress, kind: type[GrowingIndex] = LiveTrie
) -> GrowingIndex:
    """Build the index of the live rows; the kernels are compiled here once per machine, where people see it."""
    progress("constraint kernels", 0, 1)
    warm_up(vocab_size=table.vocab_size)
    progress("constraint kernels", 1, 1)
    index = kind.from_flat(table.tokens, table.offsets, table.vocab_size, table.end_token, owners=table.owners)
    gone = np.flatnonzero(~catalog.live)
    return index.remove(gone) if len(gone) else index


def generative_part(finder: Finder) -> Generative | None:
    """Find the first part of a finder that writes identifiers, itself included; None where none does."""
    if isinstance(finder, Generative):
        return finder
    return next((found for part in finder.parts.values() if (found := generative_part(part)) is not None), None)
