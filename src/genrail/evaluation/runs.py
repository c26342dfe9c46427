"""Hold answers and judgements: `Run`, `Qrels`, and the files that other tools read and write."""

from __future__ import annotations

import gzip
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from genrail.errors import QueryError
from genrail.types import JsonObject, Ranking

__all__ = ["Qrels", "Run", "tie_free"]

# float32 holds up to 3.4e38; staying below leaves room for a long chain of ties to step down from the floor.
LARGEST_SCORE = 1e30
# Steps near zero are this wide, because readers that flush denormal numbers would see ties again.
SMALLEST_STEP = 1e-30


class Run(Mapping[str, Mapping[str, float]]):
    """Hold what a method answered: for each query its items with scores, best first.

    The order of a query's items is part of the value: by score, and between equal scores as given. Everything that
    leaves a run (`scores`, `write`) carries scores that no other tool can read in another order.

    Args:
        rankings: Query id to item id to score.
        name: What made this run, for tables and the tag of TREC files.

    Raises:
        QueryError: A score that is NaN or +inf; -inf is read as "last".

    >>> run = Run({"q1": {"a": 0.5, "b": 0.9, "c": 0.5}}, name="demo")
    >>> list(run["q1"])
    ['b', 'a', 'c']
    >>> len(set(run.scores()["q1"].values()))
    3
    """

    def __init__(self, rankings: Mapping[str, Mapping[str, float]], name: str = "run") -> None:
        self.name = name
        self._rankings: dict[str, dict[str, float]] = {
            str(query_id): _sorted_scores(str(query_id), scores) for query_id, scores in rankings.items()
        }

    @classmethod
    def from_rankings(cls, rankings: Mapping[str, Ranking], name: str = "run") -> Run:
        """Make a run of a retriever's answers; an item that came twice counts where it came first.

        The order of the hits is kept, whatever their scores say.
        """
        run = cls({}, name=name)
        for query_id, ranking in rankings.items():
            ids = list(dict.fromkeys(ranking.item_ids))
            first = {hit.item_id: hit.score for hit in reversed(ranking.hits)}
            run._rankings[str(query_id)] = dict(zip(ids, tie_free([first[item] for item in ids]).tolist(), strict=True))
        return run

    def __getitem__(self, query_id: str) -> Mapping[str, float]:
        return self._rankings[query_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rankings)

    def __len__(self) -> int:
        return len(self._rankings)

    def __repr__(self) -> str:
        return f"Run({self.name!r}, {len(self)} queries)"

    def scores(self) -> dict[str, dict[str, float]]:
        """Give each query's items with strictly decreasing scores that differ in float32 too.

        Two evaluation back-ends break ties in two ways, and one of them reads 32-bit numbers: with ties, one run can
        have RR@10 = 1.0 and nDCG@10 = 0.5 in the same table. Without ties there is only one reading.
        """
        return {
            query_id: dict(zip(scores, tie_free(list(scores.values())).tolist(), strict=True))
            for query_id, scores in self._rankings.items()
        }

    def write(self, path: str | Path) -> None:
        """Write the run: JSON when the name ends in .json, else TREC; gzip when it ends in .gz.

        TREC lines are ``query Q0 item rank score tag``. Scores are those of `scores`.

        Raises:
            QueryError: An id that holds white space cannot be written to TREC.
        """
        path = Path(path)
        rankings = self.scores()
        if _is_json(path):
            _write(path, [json.dumps(rankings, ensure_ascii=False)])
            return
        tag = "-".join(self.name.split()) or "run"
        _write(
            path,
            [
                # 9 significant digits name every float32 exactly.
                f"{_word(query_id, path)} Q0 {_word(item_id, path)} {rank} {score:.9g} {tag}\n"
                for query_id, scores in rankings.items()
                for rank, (item_id, score) in enumerate(scores.items(), start=1)
            ],
        )

    @classmethod
    def read(cls, path: str | Path, name: str | None = None) -> Run:
        """Read a run from TREC or JSON, gzip by suffix.

        Between equal scores the rank column decides, as the author of the file meant it.

        Raises:
            QueryError: A line that is not six words, an item twice for one query, a score that is not a number.
        """
        path = Path(path)
        if _is_json(path):
            return cls(_read_json(path), name=name or path.name)
        rows: dict[str, list[tuple[int, str, float]]] = {}
        tag = path.name
        for number, words in _trec_lines(path, columns=6, shape="query Q0 item rank score tag"):
            query_id, _, item_id, rank, score, tag = words
            rows.setdefault(query_id, []).append(
                (int(_number(rank, path, number)), item_id, _number(score, path, number))
            )
        rankings = {}
        for query_id, hits in rows.items():
            hits.sort(key=lambda hit: hit[0])
            rankings[query_id] = {item_id: score for _, item_id, score in hits}
            if len(rankings[query_id]) < len(hits):
                raise QueryError(
                    f"{path}: query {query_id!r} holds an item twice; keep the first occurrence of each item"
                )
        return cls(rankings, name=name or tag)


class Qrels(Mapping[str, Mapping[str, float]]):
    """Hold judgements: for each query the grades of its items.

    A grade of 1 or more means relevant. Grades between 0 and 1, such as ESCI's 0.1 for a substitute, are gains for nDCG
    only. Grades below 0 (spam in some collections) count as 0.

    Raises:
        QueryError: A grade that is not a finite number.

    >>> qrels = Qrels({"q1": {"a": 2, "b": 0.1}, "q2": {"c": -1}})
    >>> qrels.answerable, qrels.relevant("q1")
    (['q1'], ['a'])
    """

    def __init__(self, judgements: Mapping[str, Mapping[str, float]]) -> None:
        self._judgements: dict[str, dict[str, float]] = {}
        for query_id, grades in judgements.items():
            own = self._judgements.setdefault(str(query_id), {})
            for item_id, grade in grades.items():
                own[str(item_id)] = _grade(grade, f"query {query_id!r}, item {item_id!r}")

    def __getitem__(self, query_id: str) -> Mapping[str, float]:
        return self._judgements[query_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._judgements)

    def __len__(self) -> int:
        return len(self._judgements)

    def __repr__(self) -> str:
        return f"Qrels({len(self)} queries, {sum(map(len, self.values()))} judgements)"

    @property
    def answerable(self) -> list[str]:
        """List the queries with at least one relevant item; means are taken over these."""
        return [query_id for query_id, grades in self.items() if max(grades.values(), default=0) >= 1]

    @property
    def negative(self) -> int:
        """Count the grades below 0."""
        return sum(grade < 0 for grades in self.values() for grade in grades.values())

    def relevant(self, query_id: str) -> list[str]:
        """List the relevant items of a query; empty for a query without judgements."""
        return [item_id for item_id, grade in self._judgements.get(query_id, {}).items() if grade >= 1]

    def write(self, path: str | Path) -> None:
        """Write the judgements: JSON by suffix .json, else TREC (``query 0 item grade``); gzip by suffix .gz.

        Raises:
            QueryError: An id that holds white space, or a grade that is not whole, cannot be written to TREC.
        """
        path = Path(path)
        if _is_json(path):
            _write(path, [json.dumps(self._judgements, ensure_ascii=False)])
            return
        _write(
            path,
            [
                f"{_word(query_id, path)} 0 {_word(item_id, path)} {_whole(grade, path)}\n"
                for query_id, grades in self._judgements.items()
                for item_id, grade in grades.items()
            ],
        )

    @classmethod
    def read(cls, path: str | Path) -> Qrels:
        """Read judgements: JSON and gzipped TREC here, all else as `genrail.catalog.read_qrels` does.

        Raises:
            QueryError: JSON or TREC that is not as expected, or a pair that was given two grades.
            CatalogError: A table or BEIR folder that is not as expected.
        """
        path = Path(path)
        if _is_json(path):
            return cls(_read_json(path))
        if path.is_dir() or _suffixes(path)[-1:] in ([".csv"], [".tsv"], [".jsonl"], [".parquet"]):
            from genrail.catalog import read_qrels

            return cls(read_qrels(path))
        judgements: dict[str, dict[str, float]] = {}
        for number, (query_id, _, item_id, word) in _trec_lines(path, columns=4, shape="query 0 item grade"):
            grade = _grade(word, f"{path}, line {number}")
            if judgements.setdefault(query_id, {}).setdefault(item_id, grade) != grade:
                raise QueryError(
                    f"{path}, line {number}: query {query_id!r}, item {item_id!r} has two grades; keep one"
                )
        return cls(judgements)


def tie_free(scores: Iterable[float]) -> npt.NDArray[np.float32]:
    """Make scores strictly decreasing, finite and distinct in float32, moving each as little as that allows.

    Args:
        scores: In the order that must survive, best first; a score above its predecessor is lowered.

    Returns:
        Shape (n,), float32.

    >>> tie_free([1.0, 1.0, 1.0 - 1e-9, 0.5]).tolist()
    [1.0, 0.9999999403953552, 0.9999998807907104, 0.5]
    """
    values = np.asarray(list(scores), dtype=np.float64)
    clipped = np.clip(np.nan_to_num(values, nan=-LARGEST_SCORE), -LARGEST_SCORE, LARGEST_SCORE).astype(np.float32)
    if len(clipped) < 2 or bool(np.all(np.diff(clipped) < -SMALLEST_STEP)):
        return clipped
    for index in range(1, len(clipped)):
        above = clipped[index - 1]
        below = min(np.nextafter(above, np.float32(-np.inf)), np.float32(above - SMALLEST_STEP))
        clipped[index] = min(clipped[index], below)
    return clipped


def _sorted_scores(query_id: str, scores: Mapping[str, float]) -> dict[str, float]:
    try:
        values = {str(item_id): float(score) for item_id, score in scores.items()}
    except (AttributeError, TypeError, ValueError):
        raise QueryError(f"query {query_id!r}: a run maps item ids to numbers, such as {{'sku-1': 0.5}}") from None
    for item_id, score in values.items():
        if math.isnan(score) or score == math.inf:
            raise QueryError(f"query {query_id!r}, item {item_id!r}: the score {score} cannot be ranked; give a number")
    return dict(sorted(values.items(), key=lambda pair: -pair[1]))


def _grade(value: object, where: str) -> float:
    try:
        number = float(cast("float", value))
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise QueryError(f"{where}: the grade {value!r} is not a number; write 1 for relevant, or graded 0, 1, 2, ...")
    return number


def _whole(grade: float, path: Path) -> int:
    if not grade.is_integer():
        raise QueryError(f"the grade {grade} is not whole, as TREC files need; write JSON instead: {path.stem}.json")
    return int(grade)


def _number(word: str, path: Path, line: int) -> float:
    try:
        return float(word)
    except ValueError:
        raise QueryError(f"{path}, line {line}: {word!r} is not a number; a run needs ranks and scores") from None


def _word(identifier: str, path: Path) -> str:
    if not identifier or len(identifier.split()) != 1:
        raise QueryError(f"the id {identifier!r} cannot be a word of a TREC file; write JSON instead: {path.stem}.json")
    return identifier


def _suffixes(path: Path) -> list[str]:
    return [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]


def _is_json(path: Path) -> bool:
    return _suffixes(path)[-1:] == [".json"]


def _open(path: Path) -> IO[str]:
    try:
        # utf-8-sig: spreadsheets put a byte-order mark before the first column's name.
        if path.suffix.lower() == ".gz":
            return cast(IO[str], gzip.open(path, "rt", encoding="utf-8-sig", newline=""))
        return open(path, encoding="utf-8-sig", newline="")
    except FileNotFoundError:
        raise QueryError(f"{path} does not exist; check the name") from None


def _write(path: Path, parts: list[str]) -> None:
    """Write beside the target and rename, so that a failure leaves no half file."""
    data = "".join(parts).encode()
    half = path.with_name(path.name + ".part")
    try:
        # mtime=0: the same values give the same bytes.
        half.write_bytes(gzip.compress(data, mtime=0) if path.suffix.lower() == ".gz" else data)
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)


def _read_json(path: Path) -> JsonObject:
    with _open(path) as file:
        try:
            values = json.load(file, object_pairs_hook=_unique_keys)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise QueryError(f"{path} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise QueryError(f"{path} must hold an object with query ids as keys, not a {type(values).__name__}")
    return values


def _unique_keys(pairs: list[tuple[str, object]]) -> JsonObject:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise QueryError(f"the id {twice!r} was given twice; ids must be unique")
    return values


def _trec_lines(path: Path, columns: int, shape: str) -> Iterator[tuple[int, list[str]]]:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            words = line.split()
            if not words:
                continue
            if len(words) != columns:
                raise QueryError(f"{path}, line {number}: expected `{shape}`, found {len(words)} words")
            yield number, words
