"""From recipes to the lanes of a fused engine, and what each lane counts for: chosen on the user's own data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from genrail.errors import SettingsError
from genrail.finders.fused import BATCH, HISTORY, HISTORY_SEEN, WORDS, WORDS_SHARE, Fused
from genrail.finders.lessons import Learning
from genrail.finders.noise import noise_levels
from genrail.finders.reading import STRENGTH, Reader
from genrail.finders.scoring import event_counts
from genrail.finding import (
    Data,
    Edition,
    Finder,
    FindOptions,
    Json,
    Progress,
    Recipe,
    Report,
    Request,
    recipe_named,
    resolve,
)
from genrail.ranking.mixing import Answers, Mixture, learn_mixture
from genrail.training.pseudo_queries import QueryMaking
from genrail.types import Query

if TYPE_CHECKING:
    from genrail.evaluation.splits import HeldOut

__all__ = ["FusedRecipe", "Lanes", "built_lanes", "mixtures", "taught_lanes"]

CUTOFF = 10
DEFAULT = ("native", "bm25", "dense", "two-tower", "lookup", "cooccurrence")
OF_NATIVE: tuple[str, ...] = ("levels", "codes", "identifiers", "pseudo_queries", "making", "train_items")
OF_NATIVE += ("max_seconds", "epochs", "learning")
ENOUGH = 100  # judged queries that a tower is taught by in a fusion; it shifts all questions, so a handful is too few
# Beside vectors, which know what a text is about, a lexical lane does best that looks at titles and at words in a row;
# on five sets the fusion gains .009 nDCG@10 by these, BM25 alone next to nothing (docs/results.md).
BESIDE_VECTORS: dict[str, object] = {"k1": 0.9, "b": 0.4, "title_weight": 3, "pairs": 0.2}
BESIDE_OTHERS = 1  # made-up queries of an item: other lanes read words better, and encoding four takes most of a build
TUNED_ON = 500, 2000  # histories that settings of a lane are chosen on: on 500 alone, chance chose the worst on Beauty
FINALISTS = 3
TUNED_DEPTH = 100  # a lane's first hundred are what the fusion gets


@dataclass(frozen=True)
class FusedRecipe(Recipe):
    """Say which lanes an engine has.

    Args:
        lanes: Kinds of finders, by name. Those that need interactions, or judged queries in some number, are left out
            where there are none.
        settings: Of each lane, by its name.
        words_share: Of the score for words and a history together, what the words decide.
        negations: Read "without X" in a query as what is not wanted.
        soft_filters: Deviations of the fused score that an item gains for each value of its own that a query names,
            such as a colour; 0 for off.
        ranker: Learn a small network on top of the weights, kept where it wins on questions it was not learnt on.
        levels, codes, identifiers, pseudo_queries, making, train_items, max_seconds, epochs, learning: See
            `NativeRecipe`; the other lanes are the teacher, and say whether written queries are good.
    """

    kind: ClassVar[str] = "fused"
    finder: ClassVar[type[Finder]] = Fused
    learns: ClassVar[bool] = True

    lanes: tuple[str, ...] = DEFAULT
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    words_share: float = WORDS_SHARE
    negations: bool = True
    soft_filters: float = STRENGTH
    ranker: bool = True
    levels: int | None = None
    codes: int | None = None
    identifiers: str | None = None
    pseudo_queries: int | None = None
    making: QueryMaking = field(default_factory=QueryMaking)
    train_items: int | None = None
    max_seconds: float | None = None
    epochs: int | None = None
    learning: Learning = field(default_factory=Learning)

    def __post_init__(self) -> None:
        if isinstance(self.learning, Mapping):  # from a manifest
            object.__setattr__(self, "learning", Learning(**self.learning))
        if isinstance(self.making, Mapping):
            object.__setattr__(self, "making", QueryMaking(**self.making))
        if not self.lanes or len(set(self.lanes)) != len(self.lanes):
            raise SettingsError(f"lanes are {self.lanes}; give one or more, each once")
        if not 0.0 <= self.words_share <= 1.0:
            raise SettingsError(f"words_share is {self.words_share}; give 0 to 1")
        if not 0.0 <= self.soft_filters < float("inf"):
            raise SettingsError(f"soft_filters is {self.soft_filters}; give 0 for off, or more")

    def to_dict(self) -> dict[str, Json]:
        """Turn the settings into plain values; a model that has no name is saved with its lane."""
        kept = {
            name: {key: value for key, value in own.items() if key != "model" or isinstance(value, str)}
            for name, own in self.settings.items()
        }
        return asdict(replace(self, settings=kept, making=self.making.kept()))

    def recipes(self) -> dict[str, Recipe]:
        """Make the recipe of each lane."""
        return {name: recipe_named(name, self._settings(name)) for name in self.lanes}

    def _settings(self, name: str) -> dict[str, object]:
        own = dict(self.settings.get(name, {}))
        if name == "bm25" and len(self.lanes) > 1:
            own = BESIDE_VECTORS | own
        if name == "native":
            own = {key: value for key in OF_NATIVE if (value := getattr(self, key)) is not None} | own
            if len(self.lanes) > 1:
                own = {"pseudo_queries": BESIDE_OTHERS} | own
        return own

    def build(self, data: Data, progress: Progress) -> Fused:
        """Build each lane on the same data, and learn how much each counts."""
        return self.around({}, data, progress)

    def around(self, given: Mapping[str, Finder], data: Data, progress: Progress) -> Fused:
        """Build the lanes that are not given, and learn how much each counts."""
        lanes = built_lanes(self.recipes(), data, progress, given)
        return Fused(
            data.catalog,
            lanes.final,
            mixtures(lanes, data, progress, ranked=self.ranker),
            self,
            data.seed,
            self.words_share,
            Reader.of(data.catalog, self.soft_filters, self.negations),
            _popularity(data),
            noise_levels(lanes.final, data.catalog, data.seed, progress),
        )

    def train(self, finder: Finder, data: Data, progress: Progress) -> Fused:
        """Teach the lanes that learn, and learn the weights anew."""
        assert isinstance(finder, Fused)
        lanes, report = taught_lanes(finder.lanes, data, progress, self.recipes())
        mixed = mixtures(lanes, data, progress, finder.mixtures, self.ranker)
        counts = finder.popularity if data.sequences is None else _popularity(data)
        noise = noise_levels(lanes.final, data.catalog, data.seed, progress)
        return finder.replaced(lanes=lanes.final, mixtures=mixed, popularity=counts, noise=noise, report=report)


@dataclass(frozen=True, eq=False)
class Lanes:
    """Hold the lanes of an engine, and the same without the events that weights are learnt on.

    Args:
        final: As they answer.
        blind: As they are asked while weights are learnt; the same ones where they never saw these events.
        taught: Those that learnt from the judged queries, which then cannot tell how much they count.
    """

    final: dict[str, Finder]
    blind: dict[str, Finder]
    taught: frozenset[str] = frozenset()


def built_lanes(
    recipes: Mapping[str, Recipe], data: Data, progress: Progress, given: Mapping[str, Finder] | None = None
) -> Lanes:
    """Build each lane; those that need interactions are left out where there are none.

    Lanes that learn do without the validation events, on which they stop and weights are learnt. The others are built
    twice, once without them: that costs seconds. What a lane's recipe lets choose is chosen on these events too. Lanes
    that are `given` are taken as they are. A lane that takes a teacher comes last and is taught by the others.

    Raises:
        SettingsError: No lane is left.
    """
    final: dict[str, Finder] = {}
    blind: dict[str, Finder] = {}
    before = data.without_validation
    for name, recipe in sorted(recipes.items(), key=lambda one: one[1].takes_teacher):
        if recipe.needs_interactions and data.sequences is None:
            continue
        if recipe.needs_queries and len(recipes) > 1 and len(data.judged) < ENOUGH:
            continue
        if given and name in given:
            final[name] = blind[name] = given[name]
        elif recipe.learns:
            final[name] = blind[name] = recipe.build(_taught_by(recipe, blind, before, progress), progress)
        else:
            chosen, blind[name] = _chosen(recipe, before, progress)
            final[name] = chosen.build(data, progress) if before is not data else blind[name]
    if not final:
        raise SettingsError(f"the lanes {', '.join(recipes)} need interactions; give some, or other lanes")
    order = [name for name in recipes if name in final]
    taught = frozenset(name for name in order if recipes[name].learns_queries and name not in (given or {}))
    return Lanes({name: final[name] for name in order}, {name: blind[name] for name in order}, taught)


def _taught_by(recipe: Recipe, lanes: Mapping[str, Finder], data: Data, progress: Progress) -> Data:
    """Let other lanes, fused with the weights of the prior, be the teacher of one that takes one."""
    if not recipe.takes_teacher or data.teacher is not None or not lanes:
        return data
    others = dict(lanes)
    priors = mixtures(Lanes(others, others), Data(data.catalog, seed=data.seed), progress)
    return data.taught_by(Fused(data.catalog, others, priors, FusedRecipe(), data.seed))


def _chosen(recipe: Recipe, before: Data, progress: Progress) -> tuple[Recipe, Finder]:
    """Choose among the settings of a lane that does not learn, on validation events where there are any."""
    choices = list(recipe.choices()) if before.held_back is not None and len(before.held_back) else [recipe]
    if len(choices) == 1:
        return recipe, recipe.build(before, progress)
    assert before.held_back is not None
    left: list[tuple[Recipe, Finder]] = []
    for choice in choices:
        left.append((choice, (left and left[0][1].retuned(choice)) or choice.build(before, progress)))
    done = 0
    for count in TUNED_ON:  # those that do well on some are tried on more
        held_out = before.held_back.sample(count, before.seed)
        figures = []
        for _, finder in left:
            progress(f"settings of {recipe.kind}", done, len(choices) + FINALISTS)
            figures.append(_ndcg(finder, before, held_out))
            done += 1
        left = [left[place] for place in np.argsort(-np.array(figures), kind="stable")[:FINALISTS].tolist()]
    progress(f"settings of {recipe.kind}", len(choices) + FINALISTS, len(choices) + FINALISTS)
    return left[0]


def _ndcg(finder: Finder, data: Data, held_out: HeldOut) -> float:
    gains = []
    for first, requests in _batches(Edition(data.catalog, finder), _histories(data, held_out, exclude_seen=True)):
        for place, found in enumerate(finder.find(requests, TUNED_DEPTH, FindOptions()), start=first):
            rank = np.flatnonzero(found.rows == held_out.targets[place])
            gains.append(1.0 / np.log2(rank[0] + 2.0) if len(rank) else 0.0)
    return float(np.mean(gains))


def taught_lanes(
    lanes: Mapping[str, Finder], data: Data, progress: Progress, recipes: Mapping[str, Recipe]
) -> tuple[Lanes, Report | None]:
    """Teach the lanes that learn, and count anew what the others count.

    Args:
        lanes: To be taught.
        data: To learn from.
        progress: Called with (stage, done, total).
        recipes: By which those learn that learn; None for those that they were built by.

    Raises:
        SettingsError: No lane learns from such data.
    """
    asking = any(recipes.get(name, lane.recipe).asks_teacher for name, lane in lanes.items() if lane.recipe.learns)
    if data.sequences is None and not data.judged and not asking:
        raise SettingsError("nothing to learn from: give interactions, or queries and qrels")
    final: dict[str, Finder] = {}
    blind: dict[str, Finder] = {}
    before, report = data.without_validation, None
    for name, lane in sorted(lanes.items(), key=lambda one: one[1].recipe.takes_teacher):
        recipe = lane.recipe
        if recipe.learns:
            recipe = recipes.get(name, recipe)
            final[name] = blind[name] = recipe.train(lane, _taught_by(recipe, blind, before, progress), progress)
            report = final[name].report or report
        elif recipe.learns_queries and data.judged:
            final[name] = blind[name] = recipe.build(before, progress)
        elif recipe.needs_interactions and data.sequences is not None:
            final[name], blind[name] = recipe.build(data, progress), recipe.build(before, progress)
        else:
            final[name] = blind[name] = lane
    taught = frozenset(name for name, lane in lanes.items() if lane.recipe.learns_queries)
    return Lanes({name: final[name] for name in lanes}, {name: blind[name] for name in lanes}, taught), report


def mixtures(
    lanes: Lanes, data: Data, progress: Progress, before: Mapping[str, Mixture] | None = None, ranked: bool = True
) -> dict[str, Mixture]:
    """Learn what each lane counts for each kind of question; by default where there is nothing to learn from.

    Args:
        lanes: To be fused.
        data: Judged queries for words, interactions for histories.
        progress: Called with (stage, done, total).
        before: Used for kinds that the data says nothing about; None for the defaults.
        ranked: Try a learnt ranker on top.
    """
    weighed = {name: lane for name, lane in lanes.final.items() if not lane.exact_only} or lanes.final
    words = [name for name, lane in weighed.items() if lane.reads_words] or list(weighed)
    pasts = [name for name, lane in weighed.items() if lane.reads_histories] or list(weighed)
    priors = {WORDS: _prior(lanes.final, words, earned=True), HISTORY: _prior(lanes.final, pasts, earned=False)}
    priors[HISTORY_SEEN] = priors[HISTORY]
    found = {**priors, **(before or {})}
    if data.judged and len(words) > 1 and not lanes.taught.intersection(words):
        queries = [Query((data.queries or {})[query_id]) for query_id in data.judged]
        grades = [
            dict(zip(data.catalog.rows(list(each)).tolist(), each.values(), strict=True))
            for each in data.judged.values()
        ]
        found[WORDS] = _learnt(lanes.blind, priors[WORDS], data, queries, grades, WORDS, ranked, progress)
    held_out = data.without_validation.held_back
    if held_out is not None and len(held_out) and len(pasts) > 1:
        targets = [{int(row): 1.0} for row in held_out.targets]
        for kind, exclude_seen in ((HISTORY, True), (HISTORY_SEEN, False)):
            queries = _histories(data, held_out, exclude_seen)
            found[kind] = _learnt(lanes.blind, priors[kind], data, queries, targets, kind, ranked, progress)
    return found


def _prior(lanes: Mapping[str, Finder], names: Sequence[str], earned: bool) -> Mixture:
    """Give each lane the same weight; where it must be `earned`, those that write identifiers begin with none.

    With words a small generative model knows what the vectors know that it was made from: on five sets it adds nothing
    to lexical and dense lanes (docs/results.md), until judged queries show the contrary.
    """
    plain = [name for name in names if not hasattr(lanes[name], "decoder")]
    weights = {name: 1.0 if name in plain or not plain or not earned else 0.0 for name in names}
    if earned and {"dense", "two-tower"} <= set(names):
        weights["dense"] = 0.0  # the taught tower reads the same vectors: together they would count twice
    return Mixture.prior(weights)


def _popularity(data: Data) -> npt.NDArray[np.int64] | None:
    return None if data.sequences is None else event_counts(data.sequences, len(data.catalog))


def _histories(data: Data, held_out: HeldOut, exclude_seen: bool) -> list[Query]:
    ids = data.catalog.item_ids
    return [
        Query(history=[ids[row] for row in held_out.history(index).tolist()], exclude_seen=exclude_seen)
        for index in range(len(held_out))
    ]


def _batches(edition: Edition, queries: Sequence[Query]) -> Iterator[tuple[int, list[Request]]]:
    for first in range(0, len(queries), BATCH):
        part = queries[first : first + BATCH]
        yield first, [resolve(query, edition.catalog, edition.filters) for query in part]


def _learnt(
    lanes: Mapping[str, Finder],
    prior: Mixture,
    data: Data,
    queries: Sequence[Query],
    grades: Sequence[Mapping[int, float]],
    kind: str,
    ranked: bool,
    progress: Progress,
) -> Mixture:
    """Ask all lanes of a kind of question, and learn weights on what they say."""
    counts = _popularity(data.without_validation)
    asker = Fused(data.catalog, lanes, {kind: prior}, FusedRecipe(), data.seed, popularity=counts)
    answers: list[Answers] = []
    for first, requests in _batches(Edition(data.catalog, asker), queries):
        progress(f"weights for {kind}", first, len(queries))
        answers += asker.asked(requests, prior.lanes)
    found = learn_mixture(prior, answers, grades, cutoff=CUTOFF, seed=data.seed, ranked=ranked)
    progress(f"weights for {kind}", len(queries), len(queries))
    return found
