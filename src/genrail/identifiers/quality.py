"""How good identifiers are before any model is trained on them.

Good identifiers use their codes evenly, rarely collide, and put items under one prefix that have something to do with
each other. The last is measured by pairs: text neighbours, items bought by the same person one after the other, items
with the same attribute value. Every share stands beside the share that chance would give with prefixes of these sizes,
because a prefix that holds everything holds all pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from genrail.errors import ShapeError
from genrail.identifiers.quantizer import check_settings, checked_vectors
from genrail.identifiers.table import IdentifierTable
from genrail.rng import generator
from genrail.types import Json

__all__ = ["DepthQuality", "IdentifierReport", "LevelQuality", "adjacent_pairs", "leading_codes", "measure"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]
MOST_DEPTHS = 8  # of ragged identifiers; beyond, hardly any two titles share a prefix
CHUNK = 512


@dataclass(frozen=True)
class LevelQuality:
    """Say how one position of the identifiers uses its codes.

    Args:
        level: 1 for the first code.
        codes: How many codes there are.
        used: How many occur.
        use: Their share.
        perplexity: Two to the power of the entropy of the codes: as good as so many codes evenly used. A dip in the
            middle
            levels is the "hourglass" (Kuai et al. 2024, arXiv 2407.21488).
        largest_share: Share of items on the most frequent code.
    """

    level: int
    codes: int
    used: int
    use: float
    perplexity: float
    largest_share: float


@dataclass(frozen=True)
class DepthQuality:
    """Say what items under one prefix of `depth` codes have in common.

    Args:
        depth: Length of the prefix.
        prefixes: How many different ones.
        items_per_prefix: On average over the prefixes.
        largest: Items under the fullest prefix.
        entropy: Of the prefix of a random item, bits; at most log2 of the number of items.
        chance: Share of all pairs of items that share the prefix; None with a single item. What the shares below would
            be if identifiers were dealt out at random.
        neighbours: Share of text neighbours that share the prefix; None when no vectors were given.
        copurchased: Share of co-purchased pairs that share the prefix; None when none were given.
        purity: For each attribute, among pairs that share the prefix and know the attribute: the share with equal
            values. None where there is no such pair.
    """

    depth: int
    prefixes: int
    items_per_prefix: float
    largest: int
    entropy: float
    chance: float | None
    neighbours: float | None
    copurchased: float | None
    purity: Mapping[str, float | None]


@dataclass(frozen=True)
class IdentifierReport:
    """Hold what `measure` found.

    Args:
        items: Rows measured.
        identifiers: Different identifiers among them, de-duplicating code included.
        colliding: Items that share their codes with another item, the de-duplicating code left out.
        collision_rate: Their share.
        largest_group: Items on the most crowded codes.
        levels: One per position.
        depths: One per length of prefix.
        purity_by_chance: For each attribute, the share of all pairs with equal values; what `purity` has to exceed.
    """

    items: int
    identifiers: int
    colliding: int
    collision_rate: float
    largest_group: int
    levels: tuple[LevelQuality, ...]
    depths: tuple[DepthQuality, ...]
    purity_by_chance: Mapping[str, float | None]

    def to_dict(self) -> dict[str, Json]:
        """Turn the report into plain values for JSON."""
        return asdict(self)

    def table(self) -> list[dict[str, str]]:
        """Give one row per level for printing: use of codes, and what items under a prefix have in common."""
        return [_printed(level, depth) for level, depth in zip(self.levels, self.depths, strict=True)]


def measure(
    table: IdentifierTable,
    *,
    levels: int | None = None,
    codes: int | None = None,
    live: npt.ArrayLike | None = None,
    vectors: npt.ArrayLike | None = None,
    attributes: Mapping[str, Sequence[object]] | None = None,
    copurchased: npt.ArrayLike | None = None,
    neighbours: int = 10,
    sample: int = 2000,
    seed: int = 0,
) -> IdentifierReport:
    """Measure identifiers against codes, texts, attributes and purchases.

    Args:
        table: The identifiers.
        levels: How many first positions say something about the item. Default: all but the last (de-duplicating)
            code of a table of fixed length, up to 8 tokens of a ragged one.
        codes: Size of the codebooks; default: the table's vocabulary, which a de-duplicating code may have widened.
        live: Mask over rows, shape (rows,): count only these.
        vectors: Text vectors, shape (rows, dimensions); neighbours are by cosine.
        attributes: Column → one value per row; None and "" count as unknown.
        copurchased: Pairs of rows, shape (pairs, 2), as from `adjacent_pairs`.
        neighbours: How many nearest texts of an item are looked at.
        sample: For how many items, drawn by `seed`.
        seed: Draws the sample.

    Raises:
        IdentifierError: A vector with NaN or infinity.
        SettingsError: `levels`, `neighbours` or `sample` below 1.
        ShapeError: Something that does not have one entry per row.

    Cost: O(rows log rows) per level, and O(sample * rows * dimensions) for the neighbours: 12,101 items below 2 s.

    >>> table = IdentifierTable.from_matrix([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]], vocab_size=4)
    >>> report = measure(table, attributes={"brand": ["a", "a", "b", "b"]})
    >>> report.colliding, [level.used for level in report.levels], report.depths[1].purity
    (2, [2, 2], {'brand': 1.0})
    """
    check_settings(neighbours=(neighbours, 1), sample=(sample, 1), seed=(seed, 0))
    check_settings(levels=(1 if levels is None else levels, 1), codes=(1 if codes is None else codes, 1))
    rows = _live_rows(live, len(table))
    matrix = leading_codes(table, levels)[rows]
    prefixes = _prefixes(matrix)
    labels = {name: _labels(values, name, len(table))[rows] for name, values in (attributes or {}).items()}
    near = None if vectors is None else _neighbour_pairs(_rows_of(vectors, len(table)), rows, neighbours, sample, seed)
    bought = None if copurchased is None else _live_pairs(copurchased, rows, len(table))
    groups = np.bincount(prefixes[-1]) if len(rows) else np.zeros(1, np.int64)
    colliding = int(groups[groups > 1].sum())
    return IdentifierReport(
        items=len(rows),
        identifiers=len(np.unique(table.groups[rows])),
        colliding=colliding,
        collision_rate=colliding / max(1, len(rows)),
        largest_group=int(groups.max()),
        levels=tuple(
            _level(number, column, codes or table.vocab_size) for number, column in enumerate(matrix.T, start=1)
        ),
        depths=tuple(_depth(number, prefix, near, bought, labels) for number, prefix in enumerate(prefixes, start=1)),
        purity_by_chance={name: _purity(np.zeros(len(rows), np.int64), found) for name, found in labels.items()},
    )


def adjacent_pairs(offsets: npt.ArrayLike, rows: npt.ArrayLike) -> Int:
    """List the pairs of items that stand next to each other in a history, shape (pairs, 2).

    Args:
        offsets: Where each user's events begin, shape (users + 1,).
        rows: Item row of each event, shape (events,).

    >>> adjacent_pairs([0, 3, 4], [7, 8, 9, 7]).tolist()
    [[7, 8], [8, 9]]
    """
    begins, events = np.asarray(offsets, dtype=np.int64), np.asarray(rows, dtype=np.int64)
    user = np.repeat(np.arange(len(begins) - 1), np.diff(begins))
    same = user[1:] == user[:-1]
    return np.column_stack([events[:-1][same], events[1:][same]])


def leading_codes(table: IdentifierTable, levels: int | None) -> Int:
    """Give the first positions of all identifiers, shape (rows, levels); -1 behind the end of a ragged one.

    Args:
        table: The identifiers.
        levels: How many; default as in `measure`.
    """
    if table.end_token is None:
        matrix = table.matrix().astype(np.int64)
        count = levels or max(1, matrix.shape[1] - 1)
        return matrix[:, :count] if len(table) else np.empty((0, count), np.int64)
    count = min(levels or MOST_DEPTHS, int(table.lengths.max(initial=1)))
    places = table.offsets[:-1, None] + np.arange(count)
    inside = np.arange(count) < table.lengths[:, None]
    return np.where(inside, table.tokens[np.minimum(places, len(table.tokens) - 1)], -1).astype(np.int64)


def _live_rows(live: npt.ArrayLike | None, count: int) -> Int:
    if live is None:
        return np.arange(count)
    mask = np.asarray(live)
    if mask.shape != (count,) or mask.dtype != np.bool_:
        raise ShapeError(f"live must be a mask of shape ({count},), got {mask.dtype} of shape {mask.shape}")
    return np.flatnonzero(mask)


def _rows_of(vectors: npt.ArrayLike, count: int) -> Float:
    array = checked_vectors(vectors)
    if len(array) != count:
        raise ShapeError(f"there are {count} identifiers but {len(array)} vectors; encode the same catalogue")
    return array


def _prefixes(codes: Int) -> list[Int]:
    """Give each prefix a number, one array (rows,) per depth."""
    prefix = np.zeros(len(codes), dtype=np.int64)
    found = []
    for column in codes.T:
        _, prefix = np.unique(np.column_stack([prefix, column]), axis=0, return_inverse=True)
        prefix = prefix.reshape(-1)
        found.append(prefix)
    return found


def _labels(values: Sequence[object], name: str, count: int) -> Int:
    """Give each value of an attribute a number, -1 for unknown."""
    if len(values) != count:
        raise ShapeError(f"attribute {name!r} has {len(values)} values for {count} rows; give one per row")
    numbers: dict[str, int] = {}
    known = (None if value is None or value == "" else str(value) for value in values)
    return np.array([-1 if value is None else numbers.setdefault(value, len(numbers)) for value in known], np.int64)


def _live_pairs(pairs: npt.ArrayLike, rows: Int, count: int) -> Int:
    """Keep the pairs of two different live rows, numbered among the live ones, shape (pairs, 2)."""
    array = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    if array.size and (array.min() < 0 or array.max() >= count):
        raise ShapeError(f"co-purchased pairs name rows {array.min()}..{array.max()}; the table has 0..{count - 1}")
    place = np.full(count, -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    moved = place[array]
    kept: Int = moved[(moved >= 0).all(axis=1) & (moved[:, 0] != moved[:, 1])]
    return kept


def _neighbour_pairs(vectors: Float, rows: Int, neighbours: int, sample: int, seed: int) -> Int:
    """Pair sampled items with their nearest texts by cosine, themselves left out; shape (pairs, 2)."""
    chosen = vectors[rows]
    lengths = np.sqrt(np.einsum("nd,nd->n", chosen, chosen))
    chosen = chosen / np.where(lengths > 0, lengths, 1).astype(np.float32)[:, None]
    count = min(neighbours, len(rows) - 1)
    if count < 1:
        return np.empty((0, 2), np.int64)
    asked = np.arange(len(rows))
    if len(rows) > sample:
        asked = np.sort(generator(seed, "neighbours").choice(len(rows), sample, replace=False))
    found = []
    for begin in range(0, len(asked), CHUNK):
        part = asked[begin : begin + CHUNK]
        scores = chosen[part] @ chosen.T
        scores[np.arange(len(part)), part] = -np.inf
        near = np.argpartition(scores, -count, axis=1)[:, -count:]
        found.append(np.column_stack([np.repeat(part, count), near.ravel()]))
    return np.concatenate(found).astype(np.int64)


def _entropy(counts: Int) -> float:
    """Give the entropy of a count of outcomes, bits."""
    shares = counts[counts > 0] / max(1, int(counts.sum()))
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def _level(number: int, column: Int, size: int) -> LevelQuality:
    counts = np.bincount(column[column >= 0], minlength=1)
    used = int((counts > 0).sum())
    return LevelQuality(
        level=number,
        codes=size,
        used=used,
        use=used / size,
        perplexity=float(2 ** _entropy(counts)) if used else 0.0,
        largest_share=float(counts.max()) / max(1, int(counts.sum())),
    )


def _depth(number: int, prefix: Int, near: Int | None, bought: Int | None, labels: Mapping[str, Int]) -> DepthQuality:
    counts = np.bincount(prefix) if len(prefix) else np.zeros(0, np.int64)
    return DepthQuality(
        depth=number,
        prefixes=len(counts),
        items_per_prefix=len(prefix) / max(1, len(counts)),
        largest=int(counts.max(initial=0)),
        entropy=_entropy(counts),
        chance=_same_pairs(counts) / _same_pairs(counts.sum(keepdims=True)) if len(prefix) > 1 else None,
        neighbours=_share(prefix, near),
        copurchased=_share(prefix, bought),
        purity={name: _purity(prefix, found) for name, found in labels.items()},
    )


def _same_pairs(counts: Int) -> float:
    return float((counts * (counts - 1)).sum())


def _share(prefix: Int, pairs: Int | None) -> float | None:
    if pairs is None or len(pairs) == 0:
        return None
    return float((prefix[pairs[:, 0]] == prefix[pairs[:, 1]]).mean())


def _purity(prefix: Int, labels: Int) -> float | None:
    """Among pairs of rows with known labels and equal prefixes, find the share with equal labels."""
    known = labels >= 0
    _, together = np.unique(prefix[known], return_counts=True)
    _, alike = np.unique(np.column_stack([prefix[known], labels[known]]), axis=0, return_counts=True)
    return _same_pairs(alike) / _same_pairs(together) if _same_pairs(together) else None


def _printed(level: LevelQuality, depth: DepthQuality) -> dict[str, str]:
    row: dict[str, str] = {
        "level": str(level.level),
        "codes used": f"{level.used} of {level.codes}",
        "perplexity": f"{level.perplexity:.1f}",
        "fullest code": _percent(level.largest_share),
        "prefixes": str(depth.prefixes),
        "items per prefix": f"{depth.items_per_prefix:.1f}",
        "entropy (bits)": f"{depth.entropy:.2f}",
        "pairs by chance": _percent(depth.chance),
    }
    if depth.neighbours is not None:
        row["text neighbours together"] = _percent(depth.neighbours)
    if depth.copurchased is not None:
        row["bought together"] = _percent(depth.copurchased)
    return row | {f"same {name}": _percent(share) for name, share in depth.purity.items()}


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"
