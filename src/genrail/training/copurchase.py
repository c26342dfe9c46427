"""Item vectors from who took what near what: what text does not tell about items."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse  # type: ignore[import-untyped]
from scipy.sparse import linalg  # type: ignore[import-untyped]

from genrail.errors import SettingsError
from genrail.rng import generator

__all__ = ["copurchase_vectors", "with_copurchase"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]


def copurchase_vectors(
    rows: npt.ArrayLike,
    offsets: npt.ArrayLike,
    items: int,
    dimensions: int = 64,
    window: int = 5,
    decay: float = 0.8,
    seed: int = 0,
) -> Float:
    """Embed items so that those taken near each other are near.

    Positive pointwise mutual information of pairs within a window, contexts smoothed by a power of 0.75, factorised
    (Levy and Goldberg 2014; Levy, Goldberg and Dagan 2015). Identifiers made from these beside
    text vectors put items under one prefix that are taken together, which text alone does not know.

    Args:
        rows: Item rows of all sequences one after the other, (events,).
        offsets: Where each sequence begins, and the end, (sequences + 1,).
        items: In the catalogue.
        dimensions: Of the vectors; fewer come out where the catalogue is smaller.
        window: Largest distance of a pair within a sequence.
        decay: Weight of a pair for each further step of distance.
        seed: Of the decomposition's start.

    Returns:
        (items, dimensions), float32, of length 1; zero for items without company.

    Raises:
        SettingsError: A dimension or window below 1.

    Cost: seconds for a million events.

    >>> vectors = copurchase_vectors([0, 1, 2, 0, 1, 2, 3, 4, 3, 4], [0, 3, 6, 8, 10], items=6, dimensions=2)
    >>> bool(vectors[0] @ vectors[1] > vectors[0] @ vectors[3]), vectors[5].tolist()
    (True, [0.0, 0.0])
    """
    if dimensions < 1 or window < 1:
        raise SettingsError(f"dimensions ({dimensions}) and window ({window}) must be 1 or more")
    counts = _pair_counts(np.asarray(rows, dtype=np.int64), np.asarray(offsets, dtype=np.int64), items, window, decay)
    information = _positive_information(counts)
    factors = _factors(information, min(dimensions, items), seed)
    length = np.linalg.norm(factors, axis=1, keepdims=True)
    vectors = np.zeros((items, dimensions), dtype=np.float32)
    vectors[:, : factors.shape[1]] = np.where(length > 1e-6, factors / np.maximum(length, 1e-6), 0.0)
    return vectors


def with_copurchase(text_vectors: npt.ArrayLike, copurchase: npt.ArrayLike | None, dimensions: int) -> Float:
    """Put text and co-purchase vectors side by side, as a quantizer reads them.

    Args:
        text_vectors: (n, any).
        copurchase: From `copurchase_vectors`, (n, dimensions); None for new items, which nobody has taken: zeros.
        dimensions: Of co-purchase vectors.

    Returns:
        (n, any + dimensions), float32.
    """
    text = np.asarray(text_vectors, dtype=np.float32)
    beside = np.zeros((len(text), dimensions), dtype=np.float32) if copurchase is None else np.asarray(copurchase)
    return np.concatenate([text, beside], axis=1).astype(np.float32)


def _pair_counts(rows: Int, offsets: Int, items: int, window: int, decay: float) -> sparse.csr_matrix:
    """Count pairs in both directions, nearer ones more, (items, items)."""
    sequence = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    total = sparse.csr_matrix((items, items), dtype=np.float64)
    for distance in range(1, window + 1):
        first = np.flatnonzero(sequence[:-distance] == sequence[distance:])
        weights = np.full(len(first), decay ** (distance - 1))
        total = total + sparse.csr_matrix((weights, (rows[first], rows[first + distance])), shape=(items, items))
    return total + total.T


def _positive_information(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Turn counts into positive pointwise mutual information, contexts smoothed by a power of 0.75."""
    pairs = counts.tocoo()
    of_item = np.asarray(counts.sum(axis=1)).ravel()
    of_context = of_item**0.75
    chance = of_item[pairs.row] * of_context[pairs.col] / max(of_context.sum(), 1e-12)
    values = np.maximum(np.log(np.maximum(pairs.data, 1e-12) / np.maximum(chance, 1e-12)), 0.0)
    information = sparse.csr_matrix((values, (pairs.row, pairs.col)), shape=counts.shape)
    return 0.5 * (information + information.T)  # smoothing made it lopsided


def _factors(matrix: sparse.csr_matrix, dimensions: int, seed: int) -> npt.NDArray[np.float64]:
    """Find vectors whose products approximate a symmetric matrix: the eigenvectors of its largest positive eigenvalues.

    Singular vectors would mix in negative eigenvalues, which set items apart that belong together.
    """
    if matrix.shape[0] <= 4 * dimensions:
        values, vectors = np.linalg.eigh(matrix.toarray())
        values, vectors = values[-dimensions:], vectors[:, -dimensions:]
    else:
        start = generator(seed, "co-purchase vectors").normal(size=matrix.shape[0])
        # A rough answer is enough: the vectors are quantised. More Lanczos vectors than the default save restarts.
        values, vectors = linalg.eigsh(
            matrix, k=dimensions, which="LA", v0=start, tol=1e-2, ncv=min(matrix.shape[0], int(2.5 * dimensions) + 1)
        )
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
