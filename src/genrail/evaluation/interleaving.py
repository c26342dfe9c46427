"""Judge two methods by clicks: their answers are shuffled into one list, and each click counts for one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from genrail.errors import SettingsError
from genrail.evaluation.runs import Qrels, Run
from genrail.evaluation.significance import PairedTest, paired_tests
from genrail.rng import generator

__all__ = ["interleaved", "preferences", "team_draft"]

DEPTH = 10  # items of the shuffled list that somebody looks at
DRAFTS = 20  # of each query, so that the toss of coins adds little to what the queries differ by anyway


def team_draft(
    first: Sequence[str], second: Sequence[str], random: np.random.Generator, depth: int = DEPTH
) -> tuple[list[str], list[int]]:
    """Shuffle two answers into one list, as captains choose teams: by turns, who begins a round is tossed for.

    Args:
        first: Item ids, best first.
        second: Those of the other method.
        random: Tosses the coins.
        depth: Items of the list.

    Returns:
        The items, and for each the team that chose it: 0 or 1.

    Source: Radlinski, Kurup and Joachims 2008, How Does Clickthrough Data Reflect Retrieval Quality?

    >>> items, teams = team_draft(["a", "b", "c"], ["b", "d"], np.random.default_rng(0), depth=4)
    >>> sorted(items), teams.count(0), teams.count(1)
    (['a', 'b', 'c', 'd'], 2, 2)
    """
    answers = (first, second)
    places, teams = [0, 0], list[int]()
    items, known = list[str](), set[str]()
    while len(items) < depth and any(places[team] < len(answers[team]) for team in (0, 1)):
        begins = int(random.integers(2))
        for team in (begins, 1 - begins):
            answer = answers[team]
            while places[team] < len(answer) and answer[places[team]] in known:
                places[team] += 1
            if places[team] < len(answer) and len(items) < depth:
                items.append(answer[places[team]])
                known.add(items[-1])
                teams.append(team)
    return items, teams


def preferences(first: Run, second: Run, clicks: Qrels, *, depth: int = DEPTH, seed: int = 0) -> list[float]:
    """Say for each query which method its clicks prefer, from -1 (the second) to 1 (the first); 0 without a click.

    Args:
        first: What one method answered.
        second: What the other answered to the same queries.
        clicks: The items that were clicked, by query.
        depth: Items of the shuffled lists.
        seed: Of the coins.
    """
    found = []
    for query_id in first:
        random = generator(seed, f"interleaving {query_id}")
        clicked = {item for item, grade in clicks[query_id].items() if grade > 0} if query_id in clicks else set()
        won = []
        for _ in range(DRAFTS):
            items, teams = team_draft(list(first[query_id]), list(second[query_id]), random, depth)
            credit = [1 - 2 * team for item, team in zip(items, teams, strict=True) if item in clicked]
            won.append(sum(credit) / len(credit) if credit else 0.0)
        found.append(float(np.mean(won)))
    return found


def interleaved(
    runs: Mapping[str, Run], to: str, clicks: Qrels, *, depth: int = DEPTH, seed: int = 0
) -> dict[str, PairedTest]:
    """Interleave each method with one of them, and tell what the clicks prefer from noise.

    Clicks that were logged while one method answered favour that method: nobody clicks what nobody saw. They judge
    fairly where both answers were shown.

    Args:
        runs: What each method answered, all to the same queries.
        to: The method that the others are interleaved with.
        clicks: The items that were clicked, by query.
        depth: Items of the shuffled lists.
        seed: Of the coins, and of resampling.

    Returns:
        For each other method the test of its preferences, -1 to 1, corrected by Holm.

    Raises:
        SettingsError: No such method.

    >>> good, bad = Run({"q": {"a": 2, "b": 1}}), Run({"q": {"b": 2, "c": 1}})
    >>> interleaved({"good": good, "bad": bad}, "bad", Qrels({"q": {"a": 1}}))["good"].difference.mean
    1.0
    """
    if to not in runs:
        raise SettingsError(f"there is no method {to!r}; there are: {', '.join(runs)}")
    values = {
        name: preferences(run, runs[to], clicks, depth=depth, seed=seed) for name, run in runs.items() if name != to
    }
    return paired_tests(values, [0.0] * len(runs[to]), seed=seed) if values else {}
