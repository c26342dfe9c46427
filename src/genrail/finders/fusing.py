"""From recipes to the lanes of a fused engine, and what each lane counts for: chosen on the user's own data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genrail.errors import SettingsError
from genrail.finders.fused import BATCH, HISTORY, HISTORY_SEEN, WORDS, Fused, FusedRecipe
from genrail.finding import Data, Edition, Finder, FindOptions, Progress, Recipe, Report, Request, resolve
from genrail.ranking.mixing import Answers, Mixture, learn_mixture
from genrail.types import Query

if TYPE_CHECKING:
    from genrail.evaluation.splits import HeldOut

__all__ = ["Lanes", "built_lanes", "mixtures", "taught_lanes"]

LOOKUP = 2.5  # of a lane that knows exact matches only: more than all others together, so that a match comes first
CUTOFF = 10
TUNED_ON = 500  # histories that settings of a lane are chosen on; the difference between two is a few percent


@dataclass(frozen=True, eq=False)
class Lanes:
    """Hold the lanes of an engine, and the same without the events that weights are learnt on.

    Args:
        final: As they answer.
        blind: As they are asked while weights are learnt; the same ones where they never saw these events.
    """

    final: dict[str, Finder]
    blind: dict[str, Finder]


def built_lanes(recipes: Mapping[str, Recipe], data: Data, progress: Progress) -> Lanes:
    """Build each lane; those that need interactions are left out where there are none.

    Lanes that learn do without the validation events, on which they stop and weights are learnt. The others are built
    twice, once without them: that costs seconds. What a lane's recipe lets choose is chosen on these events too.

    Raises:
        SettingsError: No lane is left.
    """
    final: dict[str, Finder] = {}
    blind: dict[str, Finder] = {}
    before = data.without_validation
    for name, recipe in recipes.items():
        if recipe.needs_interactions and data.sequences is None:
            continue
        if recipe.learns:
            final[name] = blind[name] = recipe.build(before, progress)
        else:
            chosen, blind[name] = _chosen(recipe, before, progress)
            final[name] = chosen.build(data, progress) if before is not data else blind[name]
    if not final:
        raise SettingsError(f"the lanes {', '.join(recipes)} need interactions; give some, or other lanes")
    return Lanes(final, blind)


def _chosen(recipe: Recipe, before: Data, progress: Progress) -> tuple[Recipe, Finder]:
    """Choose among the settings of a lane that does not learn, on validation events where there are any."""
    choices = list(recipe.choices()) if before.held_back is not None and len(before.held_back) else [recipe]
    if len(choices) == 1:
        return recipe, recipe.build(before, progress)
    assert before.held_back is not None
    held_out = before.held_back.sample(TUNED_ON, before.seed)
    best: tuple[float, Recipe, Finder] | None = None
    for done, choice in enumerate(choices):
        progress(f"settings of {recipe.kind}", done, len(choices))
        finder = choice.build(before, progress)
        figure = _ndcg(finder, before, held_out)
        if best is None or figure > best[0]:
            best = figure, choice, finder
    assert best is not None
    progress(f"settings of {recipe.kind}", len(choices), len(choices))
    return best[1], best[2]


def _ndcg(finder: Finder, data: Data, held_out: HeldOut) -> float:
    gains = []
    for first, requests in _batches(Edition(data.catalog, finder), _histories(data, held_out, exclude_seen=True)):
        for place, found in enumerate(finder.find(requests, CUTOFF, FindOptions()), start=first):
            rank = np.flatnonzero(found.rows == held_out.targets[place])
            gains.append(1.0 / np.log2(rank[0] + 2.0) if len(rank) else 0.0)
    return float(np.mean(gains))


def taught_lanes(lanes: Mapping[str, Finder], data: Data, progress: Progress) -> tuple[Lanes, Report | None]:
    """Teach the lanes that learn, and count anew what the others count.

    Raises:
        SettingsError: No lane learns from such data.
    """
    final: dict[str, Finder] = {}
    blind: dict[str, Finder] = {}
    before, report = data.without_validation, None
    for name, lane in lanes.items():
        recipe = lane.recipe
        if recipe.learns:
            final[name] = blind[name] = recipe.train(lane, before, progress)
            report = final[name].report or report
        elif recipe.needs_interactions and data.sequences is not None:
            final[name], blind[name] = recipe.build(data, progress), recipe.build(before, progress)
        else:
            final[name] = blind[name] = lane
    if data.sequences is None and not data.judged:
        raise SettingsError("nothing to learn from: give interactions, or queries and qrels")
    return Lanes(final, blind), report


def mixtures(
    lanes: Lanes, data: Data, progress: Progress, before: Mapping[str, Mixture] | None = None
) -> dict[str, Mixture]:
    """Learn what each lane counts for each kind of question; by default where there is nothing to learn from.

    Args:
        lanes: To be fused.
        data: Judged queries for words, interactions for histories.
        progress: Called with (stage, done, total).
        before: Used for kinds that the data says nothing about; None for the defaults.
    """
    words = [name for name, lane in lanes.final.items() if lane.reads_words] or list(lanes.final)
    pasts = [name for name, lane in lanes.final.items() if lane.reads_histories] or list(lanes.final)
    priors = {WORDS: _prior(lanes.final, words), HISTORY: _prior(lanes.final, pasts)}
    priors[HISTORY_SEEN] = priors[HISTORY]
    found = {**priors, **(before or {})}
    if data.judged and len(words) > 1:
        queries = [Query((data.queries or {})[query_id]) for query_id in data.judged]
        grades = [
            dict(zip(data.catalog.rows(list(each)).tolist(), each.values(), strict=True))
            for each in data.judged.values()
        ]
        found[WORDS] = _learnt(lanes.blind, priors[WORDS], data, queries, grades, WORDS, progress)
    held_out = data.without_validation.held_back
    if held_out is not None and len(held_out) and len(pasts) > 1:
        targets = [{int(row): 1.0} for row in held_out.targets]
        for kind, exclude_seen in ((HISTORY, True), (HISTORY_SEEN, False)):
            queries = _histories(data, held_out, exclude_seen)
            found[kind] = _learnt(lanes.blind, priors[kind], data, queries, targets, kind, progress)
    return found


def _prior(lanes: Mapping[str, Finder], names: Sequence[str]) -> Mixture:
    """Fuse by reciprocal ranks; a lane that writes identifiers has to earn its weight where others read words too."""
    weights = {}
    plain = [name for name in names if not hasattr(lanes[name], "decoder")]
    for name in names:
        weights[name] = LOOKUP if lanes[name].exact_only else 1.0 if name in plain or not _others(lanes, plain) else 0.0
    return Mixture.prior(weights)


def _others(lanes: Mapping[str, Finder], names: Sequence[str]) -> bool:
    return any(not lanes[name].exact_only for name in names)


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
    progress: Progress,
) -> Mixture:
    """Ask all lanes of a kind of question, and learn weights on what they say."""
    asker = Fused(data.catalog, lanes, {kind: prior}, FusedRecipe(), data.seed)
    answers: list[Answers] = []
    for first, requests in _batches(Edition(data.catalog, asker), queries):
        progress(f"weights for {kind}", first, len(queries))
        answers += asker.asked(requests, prior.lanes)
    found = learn_mixture(prior, answers, grades, cutoff=CUTOFF, seed=data.seed)
    progress(f"weights for {kind}", len(queries), len(queries))
    return found
