"""The seam: a finder answers questions about one edition of a catalogue, a recipe makes one, a scorer looks again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, cast

import numpy as np
import numpy.typing as npt

from genrail.errors import SettingsError
from genrail.types import Json, JsonObject, Progress

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from genrail.catalog import Catalog
    from genrail.constraints.index import ScoreMeaning
    from genrail.decoding.decoders import Decoder
    from genrail.decoding.trace import TracedStep
    from genrail.finding.data import Data
    from genrail.finding.requests import Request
    from genrail.models.text_encoder import Encoder

__all__ = [
    "Added",
    "Change",
    "FindOptions",
    "Finder",
    "Found",
    "Json",
    "Progress",
    "Recipe",
    "Report",
    "RowScores",
    "Scorer",
    "Trace",
]


Rows = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


class Trace(Protocol):
    """Tell how an answer came about, for people."""

    @property
    def steps(self) -> Sequence[TracedStep]:
        """Give the steps of the decode."""
        ...

    def follow(self, row: int) -> str:
        """Say how far the item of a row came, in one sentence."""
        ...

    def spell(self, prefix: Sequence[int]) -> str:
        """Say what the beginning of an identifier stands for."""
        ...

    def identifier(self, row: int) -> list[int]:
        """Give the tokens of a row's identifier."""
        ...

    def to_dict(self, top: int = 10) -> dict[str, Json]:
        """Turn the trace into plain values, with the `top` most probable children of each beam."""
        ...


class Report(Protocol):
    """Tell what a training did."""

    def summary(self) -> dict[str, str]:
        """Give a few lines for people."""
        ...

    def to_dict(self) -> dict[str, Json]:
        """Turn the report into plain values."""
        ...


@dataclass(frozen=True)
class FindOptions:
    """Say how to look; what a finder has no use for it leaves alone.

    Args:
        explain: Fill `Found.explanations` and `Found.trace`.
        decoder: Another way to decode than the finder's own; only for finders that write identifiers.
        before_step: Called between the steps of long work; what it raises ends it.
        lanes: Names of the parts of a fused finder that are asked; None for its own choice.
        meaning: Of a decoder's scores: `renormalised` makes them shares of what this edition holds, so that no other
            item can move them. None for the finder's own.
        width: Beams of a decoder. None for the finder's own.
        pool: List so many rows, where that is more than k and costs next to nothing: the first k are those of a
            question without it. For whoever puts them in another order.
    """

    explain: bool = False
    decoder: Decoder | None = None
    before_step: Callable[[], None] | None = None
    lanes: tuple[str, ...] | None = None
    meaning: ScoreMeaning | None = None
    width: int | None = None
    pool: int = 0

    def step(self) -> None:
        """Call `before_step`, if there is one."""
        if self.before_step is not None:
            self.before_step()


@dataclass(frozen=True, eq=False)
class Found:
    """Hold what a finder found for one request, best first.

    Args:
        rows: Catalogue rows, int64, shape (n,), none twice, all of them allowed. k of them whenever k are allowed, and
            more only where `FindOptions.pool` asked for them.
        scores: What the order follows, float64, shape (n,).
        log_probabilities: Of each item's identifier under the model (natural logarithm), shape (n,); None without one.
        explanations: One for each row where `FindOptions.explain` asked for it.
        trace: How it came about, likewise.
        warnings: What the caller should know.
        fits: False where nothing is near the words of the request.
        reading: How words of the request were read; see `Ranking.reading`.
    """

    rows: Rows
    scores: Scores
    log_probabilities: Scores | None = None
    explanations: tuple[Mapping[str, Json], ...] | None = None
    trace: Trace | None = None
    warnings: tuple[str, ...] = ()
    fits: bool = True
    reading: tuple[JsonObject, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def take(
        self,
        order: Rows,
        scores: Scores | None = None,
        explanations: Sequence[Mapping[str, Json]] | None = None,
    ) -> Found:
        """Take some rows, in an order.

        Args:
            order: Places of the rows that stay, shape (m,).
            scores: Their new scores, shape (m,); None keeps the old ones.
            explanations: New ones for all rows of this answer, shape (n,); None keeps the old ones.
        """
        told = self.explanations if explanations is None else explanations
        return replace(
            self,
            rows=self.rows[order],
            scores=self.scores[order] if scores is None else scores,
            log_probabilities=None if self.log_probabilities is None else self.log_probabilities[order],
            explanations=None if told is None else tuple(told[place] for place in order.tolist()),
        )


@dataclass(frozen=True)
class Added:
    """Hold the items of one change that got new rows, and what `Finder.read` said of them.

    Args:
        items: These items alone, as a catalogue.
        rows: Their rows in the grown catalogue.
        reading: Plain values, as they were logged.
    """

    items: Catalog
    rows: range
    reading: Json

    @classmethod
    def of(cls, catalog: Catalog, rows: range, reading: Json) -> Added:
        """Take some rows of a catalogue."""
        return cls(catalog.part(rows), rows, reading)


@dataclass(frozen=True)
class Change:
    """Say what a change, or a log of them, did to a catalogue.

    Args:
        added: The items that got new rows, in the order of the rows. An item whose text changed is among them, with its
            earlier row in `gone`.
        gone: Rows that no longer hold an item, new ones perhaps among them.
    """

    added: tuple[Added, ...] = ()
    gone: Rows = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def rows(self) -> range:
        """Give the new rows."""
        return range(self.added[0].rows.start, self.added[-1].rows.stop) if self.added else range(0)


class RowScores(Protocol):
    """Tell the scores of some rows: an array of all of them, or what computes them when asked."""

    def __getitem__(self, rows: Rows, /) -> npt.NDArray[np.floating]:
        """Give the score of each of these rows."""
        ...


class Finder(Protocol):
    """Answer questions about one edition of a catalogue. A value: `grow` makes the next, and this one stays usable.

    Subclass it to inherit the answers of a finder that has nothing to log, to merge or to warm up.
    """

    name: str
    """For tables and people."""

    recipe: Recipe
    """What made this finder; it is saved with it, and teaches it further."""

    def find(self, requests: Sequence[Request], k: int, options: FindOptions) -> list[Found]:
        """Find the k best items of each request.

        Returns:
            One answer per request, in order: k rows whenever k are allowed, and nothing that is not allowed. What an
            answer holds does not depend on the other requests.
        """
        ...

    def grow(self, catalog: Catalog, change: Change) -> Finder:
        """Make the finder of the next edition, without retraining.

        The same change gives the same finder, at once or after a restart, so that logged changes can be applied again.

        Args:
            catalog: The catalogue after the change.
            change: What became of it.
        """
        ...

    def save(self, folder: Path) -> dict[str, Json]:
        """Write what `load` needs into an existing, empty folder.

        Returns:
            Plain values for the manifest; `load` gets them back.
        """
        ...

    @classmethod
    def load(cls, folder: Path, details: JsonObject, catalog: Catalog, encoder: Encoder | None = None) -> Self:
        """Read what `save` wrote.

        Args:
            folder: Of a version whose files have been checked.
            details: What `save` returned.
            catalog: The same edition of the catalogue.
            encoder: The text encoder, where the caller gave one; else it is loaded by the name that was saved.

        Raises:
            StorageError: The parts do not belong together.
        """
        ...

    # --- what most finders can leave as it is -------------------------------------------------------------------

    def read(self, catalog: Catalog, rows: range, progress: Progress) -> Json:
        """Compute what `grow` needs of new rows and should not compute twice, such as vectors; it is logged."""
        return None

    def find_scored(
        self, requests: Sequence[Request], k: int, options: FindOptions
    ) -> list[tuple[Found, RowScores | None]]:
        """Find as `find` does, and give with each answer what tells the score of any row, where that costs little."""
        return [(found, None) for found in self.find(requests, k, options)]

    def matched(self, request: Request, rows: Rows) -> Sequence[Sequence[str]] | None:
        """Give the words of each row's text that the query asks for, as they stand there; None where words say nothing.

        A finder that is made of others asks the first that can tell.
        """
        answers = (part.matched(request, rows) for part in self.parts.values())
        return next((told for told in answers if told is not None), None)

    @property
    def reach(self) -> int | None:
        """Say how many rows an answer has at no further cost; None where more cost next to nothing."""
        return None

    @property
    def exact_only(self) -> bool:
        """Tell whether this lists exact matches alone, so that a fusion lets them come first."""
        return False

    @property
    def reads_words(self) -> bool:
        """Tell whether words make a difference to the answer."""
        return True

    @property
    def reads_histories(self) -> bool:
        """Tell whether a history makes a difference to the answer."""
        return True

    @property
    def held_out(self) -> bool:
        """Tell whether each user's last event was kept out of training, so that evaluating on them does not flatter."""
        return True

    @property
    def encoder(self) -> Encoder | None:
        """Give the text encoder, if there is one."""
        return None

    @property
    def parts(self) -> Mapping[str, Finder]:
        """Give the finders that this one is made of, by name."""
        return {}

    def with_part(self, part: Finder, other: Finder) -> Finder:
        """Make the same finder with one of its parts, or the whole, put in another's place."""
        return other if part is self else self

    @property
    def report(self) -> Report | None:
        """Tell what the last training in this process did, if there was one."""
        return None

    @property
    def pending(self) -> int:
        """Count the changes that `compact` would tidy up."""
        return 0

    def compact(self) -> Finder:
        """Make the finder that answers as this one, with what was added and removed merged."""
        return self

    def retuned(self, recipe: Recipe) -> Finder | None:
        """Make the same finder with another recipe, where that needs no new build; None where it does."""
        return None

    def warm_up(self) -> None:
        """Load and compile what is lazy, so that no question waits for it."""
        return

    def describe(self) -> dict[str, Json]:
        """Tell what this is, in plain values."""
        return {}


class Recipe(Protocol):
    """Make and teach one kind of finder. A frozen dataclass of settings: it is saved with the finder."""

    kind: ClassVar[str]
    """Name in the registry, in manifests and on the command line."""

    finder: ClassVar[type[Finder]]
    """What it makes; opens a saved one."""

    learns: ClassVar[bool] = False
    """Whether building trains a model: a fused engine keeps its validation events from it."""

    takes_language_model: ClassVar[bool] = False
    """Whether its setting `model` is a language model: a name, a folder or a loaded one."""

    learns_queries: ClassVar[bool] = False
    """Whether it is taught by judged queries, which then cannot tell how much it counts."""

    needs_queries: ClassVar[bool] = False
    """Whether it adds nothing to a fusion without judged queries in some number."""

    needs_interactions: ClassVar[bool] = False
    """Whether it is of no use without interactions."""

    takes_teacher: ClassVar[bool] = False
    """Whether it learns from the rankings of `Data.teacher`; in a fused engine the other lanes are the teacher."""

    @property
    def asks_teacher(self) -> bool:
        """Tell whether it will ask that teacher, by its settings; it then learns without interactions and queries."""
        return False

    def choices(self) -> Sequence[Recipe]:
        """List recipes with other settings worth trying on validation events, this one first."""
        return [self]

    def build(self, data: Data, progress: Progress) -> Finder:
        """Make a finder for a catalogue that holds an item or more.

        Raises:
            UserError: The data does not allow it.
        """
        ...

    def train(self, finder: Finder, data: Data, progress: Progress) -> Finder:
        """Make a finder that was taught further; the given one stays as it is.

        Raises:
            SettingsError: This kind does not learn, or nothing of the data fits the catalogue.
        """
        raise SettingsError(f"{finder.name} does not learn; train an engine that has a part which does")

    def examples(self, finder: Finder, data: Data, count: int) -> list[dict[str, Any]]:
        """Show what `train` would learn from, so many examples of each source: source, prompt, right items.

        Raises:
            SettingsError: This kind is not taught by prompts, or nothing of the data fits the catalogue.
        """
        raise SettingsError(f"{finder.name} is not taught by prompts, so there are no examples to show")

    def to_dict(self) -> dict[str, Json]:
        """Turn the settings into plain values."""
        return asdict(self) if is_dataclass(self) and not isinstance(self, type) else {}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """Read what `to_dict` gave, perhaps by way of JSON.

        A setting within a setting can be given by its path, such as ``loop.epochs``, or by the end of it that only one
        has, such as ``epochs``.

        Raises:
            SettingsError: A setting that does not exist, is not clear, or is out of range.
        """
        known: list[str] = [one.name for one in fields(cls)] if is_dataclass(cls) else []
        values = within(cls, values)
        unknown(values, known, cls.kind)
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


class Scorer(Protocol):
    """Look a second time at items that a finder found: a reranker."""

    kind: ClassVar[str]
    """Name in the registry, in manifests and on the command line."""

    name: str
    """For tables and people."""

    def score(self, request: Request, rows: Rows, catalog: Catalog) -> Scores:
        """Score some items for a request.

        Args:
            request: What is wanted.
            rows: Of the items, shape (n,).
            catalog: Where they stand.

        Returns:
            Higher is better, finite, shape (n,).
        """
        ...

    def save(self, folder: Path) -> dict[str, Json]:
        """Write what `load` needs into an existing, empty folder; give plain values for the manifest."""
        ...

    @classmethod
    def load(cls, folder: Path, details: JsonObject) -> Self:
        """Read what `save` wrote."""
        ...


def with_settings(recipe: Recipe, settings: Mapping[str, object]) -> Recipe:
    """Change some settings of a recipe, by name or path.

    Raises:
        SettingsError: A setting that it does not have, or out of range.
    """
    if not settings:
        return recipe
    known: list[str] = [one.name for one in fields(recipe)] if is_dataclass(recipe) else []
    found = within(type(recipe), {**{name: getattr(recipe, name) for name in known}, **settings})
    unknown(found, known, recipe.kind)
    return replace(recipe, **found)  # type: ignore[type-var]


def within(cls: type, values: Mapping[str, object]) -> dict[str, Any]:
    """Put settings that are given by a path, or by the end of one, into the settings that hold them.

    Args:
        cls: A dataclass of settings, some of them dataclasses themselves.
        values: By name or path. Names that nothing ends with stay as they are.

    Raises:
        SettingsError: Several settings end with this name.
    """
    found = dict(values)
    own = {one.name: one for one in fields(cls)} if is_dataclass(cls) else {}
    if set(values) <= set(own):
        return found
    inner = {name: start for name, one in own.items() if (start := _start(one, values.get(name))) is not None}
    paths = [path for name, start in inner.items() for path in _paths(name, start)]
    for given in [name for name in values if name not in own]:
        fits = [path for path in paths if path == given or path.endswith(f".{given}")]
        if len(fits) > 1:
            raise SettingsError(f"the setting {given!r} may be {' or '.join(fits)}; write the whole of one")
        if fits:
            first, _, rest = fits[0].partition(".")
            start = cast("DataclassInstance", found.get(first, inner[first]))
            found[first] = _with(start, rest, found.pop(given))
    return found


def _start(one: Field[Any], given: object) -> DataclassInstance | None:
    """Give a setting that is a dataclass, as given or by default; None for others."""
    made: object = given
    if given is None:
        made = one.default_factory() if one.default_factory is not MISSING else one.default
    return made if is_dataclass(made) and not isinstance(made, type) else None


def _paths(name: str, start: DataclassInstance) -> list[str]:
    """List the paths of all settings below one."""
    below: list[str] = []
    for one in fields(start):
        value, path = getattr(start, one.name), f"{name}.{one.name}"
        below += _paths(path, value) if is_dataclass(value) and not isinstance(value, type) else [path]
    return below


def _with(settings: DataclassInstance, path: str, value: object) -> DataclassInstance:
    """Replace one setting within others."""
    first, _, rest = path.partition(".")
    return replace(settings, **{first: _with(getattr(settings, first), rest, value) if rest else value})


def unknown(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Refuse settings that do not exist.

    Raises:
        SettingsError: There is one.
    """
    extra = sorted(set(given) - set(known))
    if extra:
        raise SettingsError(f"{what} has no setting {', '.join(extra)}; it has {', '.join(sorted(known)) or 'none'}")
