"""Ways to find items with a model: by beam, with proof, by sampling, and what may be done with the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from genrail.constraints.compressed import CompressedTrie, compressed
from genrail.constraints.index import ConstraintIndex, RowSequences, Subset
from genrail.constraints.segments import LiveTrie
from genrail.constraints.trie import Trie
from genrail.decoding.answers import Decoded
from genrail.decoding.beam_search import beam_search, on_compressed_rails
from genrail.decoding.calibration import calibrate
from genrail.decoding.diversity import Likeness, diversify
from genrail.decoding.empty_scores import EmptyScores
from genrail.decoding.exact import ExactSettings, exact_search
from genrail.decoding.sampling import SampleSettings, sample_search
from genrail.decoding.settings import BeamSettings
from genrail.decoding.summing import Combine, sum_sequences
from genrail.errors import SettingsError
from genrail.models.language_model import Context, LanguageModel, State

__all__ = ["Asked", "Calibrated", "Decoder", "Diverse", "decode"]

MOST = 1000  # items that one search is asked for; as many as a request may have


class Asked(Protocol[Context, State]):
    """Give the model that is asked, and what belongs to asking it."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def model(self) -> LanguageModel[Context, State]:
        """Give what writes the identifiers."""
        ...

    @property
    def combine(self) -> Combine:
        """Say how several identifiers of an item make one score."""
        ...

    def empty_context(self) -> Context | None:
        """Give the context of a request that says nothing; None where there is no such thing."""
        ...

    def empty_scores(self, trie: CompressedTrie) -> EmptyScores | None:
        """Give what identifiers have under that context; None where it is not kept."""
        ...


@dataclass(frozen=True)
class Calibrated:
    """Rank by how much the request raises an item's probability over what it has anyway.

    For models with a prompt (language models). A beam search with ``meaning="renormalised"`` takes off what an item has
    anyway at each branching, so that beams live which would be lost behind what is always probable; any other decoder
    finds items that are ranked again, see `genrail.decoding.calibrate`.

    Args:
        decoder: Finds the items.
        weight: 1 is the full correction, 0 none.
        pool: Items found for each one wanted, where they are ranked again.
    """

    decoder: BeamSettings | ExactSettings = field(default_factory=BeamSettings)
    weight: float = 1.0
    pool: int = 4  # 40 titles are scored again for 10 hits

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1 or self.pool < 1:
            raise SettingsError(f"weight is {self.weight} and pool {self.pool}; give 0 to 1, and 1 or more")


@dataclass(frozen=True)
class Diverse:
    """Choose good items that are unlike each other; see `genrail.decoding.diversify`.

    Args:
        decoder: Finds the items to choose from.
        relevance: 1 leaves the order, 0 looks at likeness alone.
        likeness: `prefix` for Semantic IDs, `tokens` for titles; None chooses by the kind of identifier.
        pool: Items found for each one wanted.
    """

    decoder: BeamSettings | ExactSettings | SampleSettings | Calibrated = field(default_factory=BeamSettings)
    relevance: float = 0.7
    likeness: Likeness | None = None
    pool: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.relevance <= 1 or self.pool < 1:
            raise SettingsError(f"relevance is {self.relevance} and pool {self.pool}; give 0 to 1, and 1 or more")
        if self.likeness not in (None, "prefix", "tokens"):
            raise SettingsError(f"likeness is {self.likeness!r}; give 'prefix', 'tokens' or None")


Decoder = BeamSettings | ExactSettings | SampleSettings | Calibrated | Diverse
"""What `Engine.search` takes as `decoder`."""


def decode(
    decoder: Decoder,
    asked: Asked[Context, State],
    contexts: Sequence[Context],
    index: ConstraintIndex,
    subsets: Sequence[Subset | None],
    k: int,
    trace: bool = False,
    before_step: Callable[[], None] | None = None,
) -> list[Decoded]:
    """Find k items of each context in the way that `decoder` names.

    Args:
        decoder: One of `Decoder`.
        asked: The model, and for `Calibrated` the prompt of an empty request.
        contexts: What the model reads, one for each request.
        index: The identifiers.
        subsets: Items allowed to each, None for all.
        k: Items wanted.
        trace: Keep the steps; a beam search has them, calibrated or not, and nothing else.
        before_step: Called before each step of a beam search; what it raises ends it.

    Raises:
        SettingsError: No such decoder, a trace of one that has none, or `Calibrated` for a model without prompts.
    """
    beam = decoder.decoder if isinstance(decoder, Calibrated) else decoder
    if trace and not isinstance(beam, BeamSettings):
        raise SettingsError(f"explain=True shows the steps of a beam search, not of {type(beam).__name__}")
    if isinstance(decoder, Calibrated):
        empty = asked.empty_context()
        if empty is None:
            raise SettingsError(f"Calibrated needs a model with prompts; {asked.name} has none")
        if asked.combine == "sum":
            raise SettingsError("Calibrated compares one identifier of each item; build with combine='best'")
        along = _calibrated_along(decoder, asked, contexts, index, subsets, k, trace, before_step)
        if along is not None:
            return along
        most = min(MOST, k * decoder.pool)
        found = decode(decoder.decoder, asked, contexts, index, subsets, most, trace, before_step)
        return calibrate(asked.model, found, empty, k, decoder.weight)
    if isinstance(decoder, Diverse):
        most = min(MOST, k * decoder.pool)
        found = decode(decoder.decoder, asked, contexts, index, subsets, most, before_step=before_step)
        return diversify(found, k, decoder.relevance, decoder.likeness or _likeness(index))
    search = _search(decoder, asked.model, trace, before_step)
    if asked.combine == "best" or not isinstance(index, RowSequences) or index.most_sequences == 1:
        return search(contexts, index, subsets, k)
    found = search(contexts, index, subsets, min(MOST, 2 * k))
    pairs = zip(contexts, found, strict=True)
    return [sum_sequences(asked.model, context, answer, index, k) for context, answer in pairs]


def _calibrated_along(
    decoder: Calibrated,
    asked: Asked[Context, State],
    contexts: Sequence[Context],
    index: ConstraintIndex,
    subsets: Sequence[Subset | None],
    k: int,
    trace: bool,
    before_step: Callable[[], None] | None,
) -> list[Decoded] | None:
    """Take off what items have anyway while searching, where decoder, model and index allow it; else None."""
    beam = decoder.decoder
    if not isinstance(beam, BeamSettings) or not isinstance(index, Trie | LiveTrie):
        return None
    if not on_compressed_rails(asked.model, index, beam) or beam.meaning != "renormalised" or not len(index):
        return None
    trie = compressed(index)
    empty = asked.empty_scores(trie)
    if empty is None:
        return None
    prior = empty.prior(trie, decoder.weight)
    return beam_search(asked.model, contexts, index, replace(beam, trace=trace), subsets, k, before_step, prior)


def _search(
    decoder: Decoder, model: LanguageModel[Context, State], trace: bool, before_step: Callable[[], None] | None
) -> Callable[..., list[Decoded]]:
    if isinstance(decoder, BeamSettings):
        settings = replace(decoder, trace=trace)
        return lambda contexts, index, subsets, k: beam_search(
            model, contexts, index, settings, subsets, k, before_step
        )
    if isinstance(decoder, ExactSettings):
        return lambda contexts, index, subsets, k: exact_search(model, contexts, index, decoder, subsets, k)
    if isinstance(decoder, SampleSettings):
        return lambda contexts, index, subsets, k: sample_search(model, contexts, index, decoder, subsets, k)
    raise SettingsError(
        f"decoder is {decoder!r}; give BeamSettings, ExactSettings, SampleSettings, Calibrated or Diverse"
    )


def _likeness(index: ConstraintIndex) -> Likeness:
    """Compare Semantic IDs by their beginning, titles by their tokens."""
    return "prefix" if getattr(index, "end_token", None) is None else "tokens"
