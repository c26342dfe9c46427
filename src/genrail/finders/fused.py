"""A finder made of others: each lane lists its best items, and one weighted sum decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from genrail.errors import SettingsError
from genrail.finders.arrays import load_array, save_arrays
from genrail.finders.noise import something_fits
from genrail.finders.reading import Reader, Reading
from genrail.finders.scoring import grown_rows
from genrail.finding import (
    Change,
    Finder,
    FindOptions,
    Found,
    Json,
    Progress,
    Recipe,
    Report,
    Request,
    RowScores,
    Searching,
    open_finder,
    recipe_named,
    save_finder,
)
from genrail.finding.ranks import tie_order
from genrail.ranking.mixing import Answers, Mixture, squashed
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.models.text_encoder import Encoder

Rows = npt.NDArray[np.int64]

__all__ = ["BATCH", "BOTH", "HISTORY", "HISTORY_SEEN", "WORDS", "WORDS_SHARE", "Fused", "kind_of"]

WORDS, HISTORY, HISTORY_SEEN, BOTH = "words", "history", "history, seen items kept", "words and history"
WORDS_SHARE = 2 / 3  # whoever types words wants these; the past says which of the fitting ones
DEPTH = 100  # items that a lane lists for one question: as many as reciprocal rank fusion was measured with
EXACT = 10.0  # what an exact match adds: more deviations than any other lane can stand out by
CONTEXT = 4  # what a ranker reads beside the lanes: popularity, how long ago it was taken, lengths of past and query
BATCH = 64  # questions asked together while weights are learnt


def kind_of(request: Request) -> str:
    """Say what kind of question a request is."""
    if request.text is not None:
        return BOTH if request.history.size else WORDS
    return HISTORY if np.isin(request.history, request.excluded).all() else HISTORY_SEEN


@dataclass(frozen=True, eq=False)
class _Listed:
    """Hold what one lane said about one request."""

    found: Found
    scores: RowScores | None  # of any row, where the lane tells


class Fused(Searching, Finder):
    """Ask several finders, its lanes, and rank by a weighted sum of their ranks and scores, 0 to 1.

    Args:
        catalog: The items.
        lanes: By name.
        mixtures: How much each lane counts, for each kind of question.
        recipe: What made this.
        seed: Of the order between equal scores.
        words_share: Of the score for words and a history together, what the words decide.
        reader: Reads what queries exclude and which values they name; None for one that reads exclusions alone.
        popularity: Events of each row, int64, (rows,), for rankers; None for none.
        noise: What the best item scores for words that mean nothing, in each lane that does not tell by itself; see
            `genrail.finders.noise`. None where that was not measured, by versions before 0.2.
        report: Of the last training in this process.
    """

    name = "genrail"

    def __init__(
        self,
        catalog: Catalog,
        lanes: Mapping[str, Finder],
        mixtures: Mapping[str, Mixture],
        recipe: Recipe,
        seed: int = 0,
        words_share: float = WORDS_SHARE,
        reader: Reader | None = None,
        popularity: Rows | None = None,
        noise: Mapping[str, float] | None = None,
        report: Report | None = None,
    ) -> None:
        self.catalog = catalog
        self.lanes = dict(lanes)
        self.mixtures = dict(mixtures)
        self.recipe = recipe
        self.seed = seed
        self.words_share = words_share
        self.reader = Reader.from_dict({}, catalog, negations=True) if reader is None else reader
        self.popularity = np.zeros(len(catalog), dtype=np.int64) if popularity is None else popularity
        self.noise = noise
        self._report = report

    def replaced(self, **parts: object) -> Fused:
        """Make the same finder with other parts."""
        names = ("catalog", "lanes", "mixtures", "recipe", "seed", "words_share", "reader", "popularity", "noise")
        return Fused(**{**{name: getattr(self, name) for name in names}, "report": self._report, **parts})

    # --- questions ----------------------------------------------------------------------------------------------

    def find(self, requests: Sequence[Request], k: int, options: FindOptions) -> list[Found]:
        """Ask the lanes that count for each kind of question, and fuse; see `Finder.find`.

        Raises:
            SettingsError: `FindOptions.lanes` names a lane that is not here.
        """
        chosen = self._chosen(options)
        if len(chosen) == 1:
            return self.lanes[chosen[0]].find(requests, k, replace(options, lanes=None))
        answers: dict[int, Found] = {}
        groups: dict[tuple[str, str], list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault((kind_of(request), kind_of(replace(request, text=None))), []).append(place)
        for (kind, past_kind), places in groups.items():
            found = self._of_kind(kind, past_kind, [requests[place] for place in places], k, options, chosen)
            answers.update(zip(places, found, strict=True))
        return [answers[place] for place in range(len(requests))]

    def _chosen(self, options: FindOptions) -> tuple[str, ...]:
        """Name the lanes that a question may ask; none for all."""
        if options.lanes is None:
            writing = tuple(name for name, lane in self.lanes.items() if hasattr(lane, "decoder"))
            return writing[:1] if options.decoder is not None else ()  # a decoder says that a model is to write
        unknown = [name for name in options.lanes if name not in self.lanes]
        if unknown or not options.lanes:
            named = ", ".join(unknown) or "none"
            raise SettingsError(f"lanes: {named} is not among the lanes of this engine, {', '.join(self.lanes)}")
        return options.lanes

    def _of_kind(
        self, kind: str, past_kind: str, requests: list[Request], k: int, options: FindOptions, chosen: tuple[str, ...]
    ) -> list[Found]:
        if kind != BOTH:
            return list(self._fused(requests, self._mixture(kind, chosen), k, options))
        # Words and a history: the words decide, what the history would bring comes beside them.
        nothing = np.zeros(0, dtype=np.int64)
        words = [replace(request, history=nothing) for request in requests]
        pasts = [replace(request, text=None) for request in requests]
        parts = (self._mixture(WORDS, chosen), self._mixture(past_kind, chosen))
        depth = max(k, DEPTH)
        sides = [
            list(self._fused(asked, mixture, depth, replace(options, explain=options.explain)))
            for asked, mixture in zip((words, pasts), parts, strict=True)
        ]
        share = self.words_share
        return [self._joined((one, other), (share, 1.0 - share), k, options) for one, other in zip(*sides, strict=True)]

    def _mixture(self, kind: str, chosen: tuple[str, ...]) -> Mixture:
        mixture = self.mixtures[kind]
        return mixture.only([name for name in mixture.lanes if name in chosen] or list(chosen)) if chosen else mixture

    def _fused(self, requests: list[Request], mixture: Mixture, k: int, options: FindOptions) -> Iterator[Found]:
        """Ask the lanes of a mixture, and those that know exact matches, and rank what they listed."""
        read = [self.reader.read(request) for request in requests]
        asked = [reading.request for reading in read]
        exact = tuple(name for name, lane in self.lanes.items() if lane.exact_only and name not in mixture.lanes)
        names = (*mixture.lanes, *exact)
        listed = [*self._ask(asked, mixture, k, options), *self._exact(exact, requests, options)]
        for number, reading in enumerate(read):
            options.step()
            mine = [lane[number] for lane in listed]
            answers = self._said(asked[number], mine)
            count = len(mixture.lanes)
            weighed = replace(answers, places=answers.places[:count], scores=answers.scores[:count])
            sums = mixture.sums(weighed)
            believed = self.reader.believed(reading, answers.rows, sums)
            sums = sums + self.reader.gains(believed, answers.rows, sums)
            if exact:
                sums = sums + EXACT * np.nan_to_num(answers.scores[count:], nan=0.0).max(axis=0, initial=0.0)
            scores = squashed(mixture.slope * sums + mixture.offset)
            order = np.lexsort((self._precedence[answers.rows], -sums))[: max(k, options.pool)]
            found = self._found(names, mine, answers, scores, order, options, believed)
            trusted = {name: one.found for name, one in zip(names, mine, strict=True) if one is not None}
            fits = requests[number].text is None or something_fits(trusted, self.lanes, self.noise)
            yield replace(found, fits=fits)

    def _exact(self, names: Sequence[str], requests: list[Request], options: FindOptions) -> list[list[_Listed | None]]:
        """Ask for exact matches; what a lane lists only to fill up is left out."""
        if not any(request.text for request in requests):
            return [[None] * len(requests) for _ in names]
        found: list[list[_Listed | None]] = []
        for name in names:
            answers = self.lanes[name].find(requests, DEPTH, replace(options, pool=0))
            found.append([_Listed(_matches(one), None) for one in answers])
        return found

    def _ask(
        self, requests: list[Request], mixture: Mixture, k: int, options: FindOptions
    ) -> list[list[_Listed] | list[None]]:
        """Ask each lane of a mixture; those that do not count are not asked."""
        asked = set(mixture.asked)
        if options.explain:  # people want to see the model at work even where it does not count
            asked |= {name for name in mixture.lanes if hasattr(self.lanes[name], "decoder")}
        depth = max(k, DEPTH)
        return [
            self._listed(self.lanes[name], requests, depth, k, options) if name in asked else [None] * len(requests)
            for name in mixture.lanes
        ]

    def _listed(self, lane: Finder, requests: list[Request], depth: int, k: int, options: FindOptions) -> list[_Listed]:
        depth = depth if lane.reach is None else max(k, min(depth, lane.reach))
        asked = replace(options, pool=0)
        return [_Listed(found, scores) for found, scores in lane.find_scored(requests, depth, asked)]

    def asked(self, requests: Sequence[Request], names: Sequence[str]) -> list[Answers]:
        """Give what the named lanes say about each request, before any weights."""
        mixture = Mixture.prior(dict.fromkeys(names, 1.0))
        listed = self._ask(list(requests), mixture, DEPTH, FindOptions())
        return [self._said(request, [lane[number] for lane in listed]) for number, request in enumerate(requests)]

    def _said(self, request: Request, listed: Sequence[_Listed | None]) -> Answers:
        """Lay out what the lanes said about a request, with what else a ranker reads of each candidate."""
        answers = _answers(listed)
        count, history = len(answers.rows), request.history.tolist()
        back = {row: 1.0 / (len(history) - place) for place, row in enumerate(history)}  # 1 for the last item
        context = np.zeros((count, CONTEXT))
        context[:, 0] = np.log1p(self.popularity[answers.rows])
        context[:, 1] = [back.get(row, 0.0) for row in answers.rows.tolist()]
        context[:, 2] = np.log1p(len(history))
        context[:, 3] = np.log1p(len((request.text or "").split()))
        return replace(answers, context=context)

    @property
    def _precedence(self) -> npt.NDArray[np.int64]:
        if "_ties" not in self.__dict__:
            self.__dict__["_ties"] = tie_order(len(self.catalog), self.seed)
        ties: npt.NDArray[np.int64] = self.__dict__["_ties"]
        return ties

    def _found(
        self,
        names: Sequence[str],
        listed: Sequence[_Listed | None],
        answers: Answers,
        scores: npt.NDArray[np.float64],
        order: npt.NDArray[np.int64],
        options: FindOptions,
        reading: Reading,
    ) -> Found:
        rows = answers.rows[order]
        known = [one for one in listed if one is not None]
        told = _told(names, listed, answers, order) if options.explain else None
        if told is not None and reading.conditions:
            told = tuple({**one, **own} for one, own in zip(told, self.reader.explanations(reading, rows), strict=True))
        trace = next((one.found.trace for one in known if one.found.trace is not None), None)
        warnings = tuple(dict.fromkeys(warning for one in known for warning in one.found.warnings))
        warnings = (*warnings, *reading.warnings)
        read = (*reading.to_dicts(), *(entry for one in known for entry in one.found.reading))
        return Found(rows, scores[order], _chances(known, rows), told, trace, warnings, reading=read)

    def _joined(self, sides: tuple[Found, Found], shares: tuple[float, float], k: int, options: FindOptions) -> Found:
        """Add up the answers for the words and for the history."""
        rows = np.unique(np.concatenate([side.rows for side in sides]))
        scores = np.zeros(len(rows))
        for side, share in zip(sides, shares, strict=True):
            scores[np.searchsorted(rows, side.rows)] += share * side.scores
        order = np.lexsort((self._precedence[rows], -scores))[: max(k, options.pool)]
        told = _joined_explanations(sides, rows[order]) if options.explain else None
        known = [_Listed(side, None) for side in sides]
        trace = next((side.trace for side in sides if side.trace is not None), None)
        warnings = tuple(dict.fromkeys(warning for side in sides for warning in side.warnings))
        chances = _chances(known, rows[order])
        return Found(rows[order], scores[order], chances, told, trace, warnings, sides[0].fits, sides[0].reading)

    # --- changes ------------------------------------------------------------------------------------------------

    def read(self, catalog: Catalog, rows: range, progress: Progress) -> Json:
        """Ask each lane for its reading; readings that are equal are logged once, under the first lane's name."""
        readings: dict[str, Json] = {}
        for name, lane in self.lanes.items():
            reading = lane.read(catalog, rows, progress)
            same = next((other for other, known in readings.items() if known == reading and reading), None)
            readings[name] = reading if same is None else f"{SAME}{same}"
        return readings

    def grow(self, catalog: Catalog, change: Change) -> Fused:
        """Grow each lane; weights stay."""
        lanes = {name: lane.grow(catalog, part_of(change, name)) for name, lane in self.lanes.items()}
        counts = grown_rows(self.popularity, catalog, 0)
        return self.replaced(catalog=catalog, lanes=lanes, reader=self.reader.grown(catalog), popularity=counts)

    @property
    def pending(self) -> int:
        """Count the changes of the lane that has most to tidy up."""
        return max(lane.pending for lane in self.lanes.values())

    def compact(self) -> Fused:
        """Compact each lane."""
        return self.replaced(lanes={name: lane.compact() for name, lane in self.lanes.items()})

    # --- a saved folder -----------------------------------------------------------------------------------------

    def save(self, folder: Path) -> dict[str, Json]:
        """Write each lane into a folder of its own."""
        details: dict[str, Json] = {}
        for name, lane in self.lanes.items():
            (folder / "lanes" / name).mkdir(parents=True)
            details[name] = save_finder(lane, folder / "lanes" / name)
        save_arrays(folder, {"popularity": self.popularity})
        mixtures = {kind: mixture.to_dict() for kind, mixture in self.mixtures.items()}
        return {
            "lanes": details,
            "mixtures": mixtures,
            "seed": self.seed,
            "words_share": self.words_share,
            "negations": self.reader.negations,
            "soft_filters": self.reader.to_dict(),
            "noise": self.noise,
        }

    @classmethod
    def load(cls, folder: Path, details: JsonObject, catalog: Catalog, encoder: Encoder | None = None) -> Self:
        """Read what `save` wrote."""
        kept = details["lanes"].items()
        lanes = {name: open_finder(folder / "lanes" / name, each, catalog, encoder) for name, each in kept}
        mixtures = {kind: Mixture.from_dict(values) for kind, values in details["mixtures"].items()}
        recipe = recipe_named(str(details["kind"]), details["recipe"])
        counted = "noise" in details or (folder / "popularity.npy").exists()  # engines before rankers counted nothing
        return cls(
            catalog,
            lanes,
            mixtures,
            recipe,
            int(details["seed"]),
            float(details["words_share"]),
            Reader.from_dict(details.get("soft_filters", {}), catalog, bool(details["negations"])),
            load_array(folder, "popularity", np.int64, (len(catalog),)) if counted else None,
            details.get("noise"),
        )

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def parts(self) -> Mapping[str, Finder]:
        """Give the lanes."""
        return self.lanes

    def with_part(self, part: Finder, other: Finder) -> Finder:
        """See `Finder.with_part`."""
        if part is self:
            return other
        return self.replaced(lanes={name: lane.with_part(part, other) for name, lane in self.lanes.items()})

    @property
    def encoder(self) -> Encoder | None:
        """Give the text encoder of the first lane that has one."""
        return next((lane.encoder for lane in self.lanes.values() if lane.encoder is not None), None)

    @property
    def held_out(self) -> bool:
        """See `Finder.held_out`."""
        return all(lane.held_out for lane in self.lanes.values())

    @property
    def reads_histories(self) -> bool:
        """See `Finder.reads_histories`."""
        return any(lane.reads_histories for lane in self.lanes.values())

    @property
    def report(self) -> Report | None:
        """See `Finder.report`."""
        return self._report

    def warm_up(self) -> None:
        """Warm up each lane."""
        for lane in self.lanes.values():
            lane.warm_up()

    def describe(self) -> dict[str, Json]:
        """Tell the lanes, and for each kind of question their weights and what they were learnt from."""
        weights = {f"weights for {kind}": _weights_line(mixture) for kind, mixture in self.mixtures.items()}
        facts = {f"{name} {key}": value for name, lane in self.lanes.items() for key, value in lane.describe().items()}
        return {"lanes": ", ".join(self.lanes), **weights, **self.reader.describe(), **facts}


SAME = "same as "  # what stands in a log in place of a reading that another lane has too


def part_of(change: Change, name: str) -> Change:
    """Give one part of a finder its own readings of a change."""
    added = []
    for one in change.added:
        readings = one.reading if isinstance(one.reading, Mapping) else {}
        reading = readings.get(name)
        if isinstance(reading, str) and reading.startswith(SAME):
            reading = readings.get(reading.removeprefix(SAME))
        added.append(replace(one, reading=reading))
    return Change(tuple(added), change.gone)


def _matches(found: Found) -> Found:
    """Keep the rows that match."""
    matching = found.scores > 0.0
    return Found(found.rows[matching], found.scores[matching])


def _answers(listed: Sequence[_Listed | None]) -> Answers:
    """Lay out what the lanes said about one request: the union of what they listed."""
    known = [one.found.rows for one in listed if one is not None]
    rows = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *known]))
    places = np.zeros((len(listed), len(rows)), dtype=np.int64)
    scores = np.full((len(listed), len(rows)), np.nan)
    for number, one in enumerate(listed):
        if one is None:
            continue
        where = np.searchsorted(rows, one.found.rows)
        if one.scores is not None:
            scores[number] = one.scores[rows]
        else:
            chances = one.found.log_probabilities
            scores[number, where] = one.found.scores if chances is None else np.exp(chances)
        listed_scores = scores[number, where]
        telling = listed_scores > listed_scores.min(initial=0.0)  # what a lane scores lowest it lists to fill up
        places[number, where[telling]] = np.arange(1, len(where) + 1)[telling]
    return Answers(rows, places, scores)


def _chances(known: Sequence[_Listed], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
    """Give the log-probability of each row that a lane with a model wrote; NaN for others."""
    written = [one.found for one in known if one.found.log_probabilities is not None]
    if not written:
        return None
    chances = np.full(len(rows), np.nan)
    for found in written:
        by_row = dict(zip(found.rows.tolist(), np.asarray(found.log_probabilities).tolist(), strict=True))
        new = np.array([by_row.get(row, np.nan) for row in rows.tolist()])
        chances = np.where(np.isnan(chances), new, chances)
    return chances


def _told(
    names: Sequence[str], listed: Sequence[_Listed | None], answers: Answers, order: npt.NDArray[np.int64]
) -> tuple[dict[str, Json], ...]:
    """Say of each hit which lanes found it, at which rank, and what they said of it."""
    said: list[dict[int, Mapping[str, Json]]] = [
        {}
        if one is None or one.found.explanations is None
        else dict(zip(one.found.rows.tolist(), one.found.explanations, strict=True))
        for one in listed
    ]
    explanations = []
    for place in order.tolist():
        row = int(answers.rows[place])
        explanation: dict[str, Json] = {}
        for each in said:
            explanation.update(each.get(row, {}))
        explanation["lanes"] = {
            name: {"rank": int(answers.places[number, place]), "score": float(answers.scores[number, place])}
            for number, name in enumerate(names)
            if answers.places[number, place] > 0
        }
        explanations.append(explanation)
    return tuple(explanations)


def _joined_explanations(sides: Sequence[Found], rows: npt.NDArray[np.int64]) -> tuple[dict[str, Json], ...]:
    by_side = [dict(zip(side.rows.tolist(), side.explanations or (), strict=False)) for side in sides]
    joined = []
    for row in rows.tolist():
        explanation: dict[str, Json] = {}
        lanes: dict[str, Json] = {}
        for name, side in zip((WORDS, HISTORY), by_side, strict=True):
            found = side.get(row, {})
            explanation = {**found, **explanation}
            lanes |= {f"{lane} ({name})": each for lane, each in dict(found.get("lanes") or {}).items()}
        joined.append({**explanation, "lanes": lanes})
    return tuple(joined)


def _weights_line(mixture: Mixture) -> str:
    shares = [
        f"{name} {sum(weights):.2f}"
        for name, *weights in zip(mixture.lanes, mixture.standing, mixture.score, mixture.place, strict=True)
    ]
    source = f"learnt from {mixture.questions} questions" if mixture.questions else "by default"
    figures = ", ".join(f"{name} {figure:.4f}" for name, figure in mixture.figures.items())
    return f"{', '.join(shares)} ({source}{'; nDCG@10: ' + figures if figures else ''})"
