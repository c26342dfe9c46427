"""k-means on one level: seeded k-means++, Lloyd's iterations, empty clusters revived, exact nearest centroids.

Our own few lines of NumPy instead of a library, for two reasons: the codebooks must not depend on which optional
package is installed, and an assignment must not depend on the batch (see `nearest`). The cost is that of matrix
products either way.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["kmeans", "nearest"]

Float = npt.NDArray[np.float32]
Int = npt.NDArray[np.int64]

CHUNK = 8192  # rows per product: 8192 x 256 distances are 8 MiB
DOUBT = 1e-3  # distances closer than this, relative to the lengths at hand, are computed again exactly


def kmeans(
    vectors: Float, codes: int, random: np.random.Generator, iterations: int = 25, start: Float | None = None
) -> Float:
    """Find `codes` centroids that make the squared distances small.

    Starts from k-means++ (Arthur and Vassilvitskii 2007), then Lloyd's iterations until no vector moves or
    `iterations` are spent. A centroid that loses all its vectors is put on the vector that is farthest from its own
    centroid, so that codes stay in use whenever there are as many distinct vectors as codes. With fewer distinct
    vectors, each becomes a centroid and the rest are repeats, which `nearest` never gives out.

    Args:
        vectors: Shape (n, dimensions), float32, n at least 1.
        codes: How many centroids.
        random: Draws the start.
        iterations: At most so many; 25 as in faiss, whose gains beyond are below a percent of the distance.
        start: Begin from these centroids, (codes, dimensions), instead of drawing.

    Returns:
        Centroids, float32, shape (codes, dimensions).

    Cost: O(n codes dimensions) per iteration.

    >>> points = np.array([[0.0], [0.1], [9.0], [9.2]], dtype=np.float32)
    >>> np.sort(kmeans(points, 2, np.random.default_rng(0)).ravel()).round(2)
    array([0.05, 9.1 ], dtype=float32)
    """
    centroids = _plus_plus(vectors, codes, random) if start is None else start
    if start is None and len(np.unique(centroids, axis=0)) < codes:  # fewer distinct vectors than codes: already exact
        return centroids
    labels = np.full(len(vectors), -1, dtype=np.int64)
    for _ in range(iterations):
        previous = labels
        labels, distances = _rough(vectors, centroids)
        if np.array_equal(labels, previous):
            break
        centroids = _means(vectors, labels, distances, codes)
    return centroids


def nearest(vectors: Float, centroids: Float) -> Int:
    """Find the nearest centroid of each vector, the first of equals; shape (n,).

    The answer for a vector does not depend on the vectors around it: a matrix product rounds differently with the size
    of the batch, so wherever two centroids are nearly equally near, their distances are summed again one by one in
    float64.

    Cost: O(n codes dimensions).
    """
    _, first = np.unique(centroids, axis=0, return_index=True)  # repeats would all be nearly equally near
    first.sort()
    labels = np.empty(len(vectors), dtype=np.int64)
    for begin in range(0, len(vectors), CHUNK):
        chunk = vectors[begin : begin + CHUNK]
        labels[begin : begin + CHUNK] = _nearest_exactly(chunk, centroids[first])
    return first[labels]


def _nearest_exactly(vectors: Float, centroids: Float) -> Int:
    scores = _scores(vectors, centroids)  # (n, codes): distance minus the vector's own square
    best = scores.min(axis=1, keepdims=True)
    lengths = np.einsum("nd,nd->n", vectors, vectors)[:, None] + np.einsum("kd,kd->k", centroids, centroids).max()
    near = scores <= best + np.float32(DOUBT) * lengths
    labels: Int = scores.argmin(axis=1)
    for row in np.flatnonzero(near.sum(axis=1) > 1):
        candidates = np.flatnonzero(near[row])
        gaps = vectors[row].astype(np.float64) - centroids[candidates]
        labels[row] = candidates[np.argmin((gaps * gaps).sum(axis=1))]
    return labels


def _scores(vectors: Float, centroids: Float) -> Float:
    scores: Float = vectors @ centroids.T
    scores *= -2
    scores += np.einsum("kd,kd->k", centroids, centroids)
    return scores


def _rough(vectors: Float, centroids: Float) -> tuple[Int, Float]:
    """Assign without the exact second look: labels and squared distances, both (n,)."""
    labels = np.empty(len(vectors), dtype=np.int64)
    distances = np.empty(len(vectors), dtype=np.float32)
    for begin in range(0, len(vectors), CHUNK):
        chunk = vectors[begin : begin + CHUNK]
        scores = _scores(chunk, centroids)
        picked = scores.argmin(axis=1)
        labels[begin : begin + CHUNK] = picked
        own = np.einsum("nd,nd->n", chunk, chunk)
        distances[begin : begin + CHUNK] = np.maximum(scores[np.arange(len(chunk)), picked] + own, 0)
    return labels, distances


def _means(vectors: Float, labels: Int, distances: Float, codes: int) -> Float:
    counts = np.bincount(labels, minlength=codes)
    order = np.argsort(labels, kind="stable")
    used = np.flatnonzero(counts)
    begins = np.concatenate([[0], np.cumsum(counts[used])[:-1]])
    means = np.zeros((codes, vectors.shape[1]), dtype=np.float32)
    means[used] = np.add.reduceat(vectors[order], begins, axis=0) / counts[used, None]
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        far = _farthest_distinct(vectors, distances, len(empty))
        means[empty] = vectors[np.resize(far, len(empty))]  # repeats where distinct vectors are fewer
    return means


def _farthest_distinct(vectors: Float, distances: Float, count: int) -> Int:
    """Pick the rows farthest from their centroids, no two of them equal vectors; shape (up to count,)."""
    picked: list[int] = []
    taken: set[bytes] = set()
    for row in np.argsort(-distances, kind="stable"):
        if len(picked) == count:
            break
        key = vectors[row].tobytes()
        if key not in taken:
            taken.add(key)
            picked.append(int(row))
    return np.array(picked, dtype=np.int64)


def _plus_plus(vectors: Float, codes: int, random: np.random.Generator) -> Float:
    """Draw the start: each next centroid with probability proportional to its squared distance from those drawn."""
    picks = [int(random.integers(len(vectors)))]
    own = np.einsum("nd,nd->n", vectors, vectors).astype(np.float64)
    left = _distances_to(vectors, own, picks[0])
    while len(picks) < codes and left.max() > 0:
        picks.append(int(random.choice(len(vectors), p=left / left.sum())))
        np.minimum(left, _distances_to(vectors, own, picks[-1]), out=left)
    repeated = np.resize(np.array(picks, dtype=np.int64), codes)
    return vectors[repeated].copy()


def _distances_to(vectors: Float, own: npt.NDArray[np.float64], row: int) -> npt.NDArray[np.float64]:
    """Give squared distances to one of the vectors, float64, (n,); rounding noise counts as zero."""
    distances: npt.NDArray[np.float64] = own + own[row] - 2 * (vectors @ vectors[row]).astype(np.float64)
    distances[distances < 1e-6 * (own + own[row])] = 0
    distances[row] = 0
    return distances
