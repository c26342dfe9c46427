"""Losses by the order of candidates: pairwise, listwise, and by the margins of prefixes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from genrail.training.fine_tuning_settings import Order
from genrail.training.rails import Candidates, grouped_log_sums

__all__ = ["order_loss", "prefix_parts"]

Int = npt.NDArray[np.int64]


def order_loss(kind: Order, candidates: Candidates, margin: float = 1.0) -> Tensor:
    """Compute how far the model is from the order that the weights of candidates give, summed over requests.

    A request with fewer than two candidates of different weight has no order, and loses nothing.

    Args:
        kind: `pairwise`: of each pair, ``max(0, margin - (log p(better) - log p(worse)))``, the mean over pairs, as in
            LTRGR (Li et al. 2023, Learning to Rank in Generative Retrieval); `listwise`: cross-entropy between the
            weights and the probabilities, both shared out among the candidates alone (Cao et al. 2007, ListNet);
            `prefix-margin`: of each pair, at each branching from where their identifiers part, the squared difference
            between the margin of the prefixes and a part of the teacher's margin, ``log weight(better) - log
            weight(worse)``; the part grows along the identifier up to 1 (`prefix_parts`), the mean over pairs and
            branchings, as in RIPOR (Zeng et al. 2023). So an item that the teacher prefers is ahead early enough to
            stay in a beam.
        candidates: From `Branchings.candidates`.
        margin: Of `pairwise`, in nats.
    """
    if kind == "listwise":
        return _listwise(candidates)
    better, worse = _pairs(candidates, least=0.0 if kind == "prefix-margin" else -1.0)
    if not len(better):
        return candidates.prefixes.sum() * 0.0
    groups = candidates.groups[better]
    if kind == "pairwise":
        whole = candidates.whole
        lost = (margin - (whole[better] - whole[worse])).clamp(min=0.0)[:, None]
        return _mean_of_groups(lost, np.ones((len(better), 1)), groups)
    apart = candidates.prefixes[better] - candidates.prefixes[worse]
    weights = candidates.weights
    wanted = (np.log(weights[better]) - np.log(weights[worse]))[:, None] * prefix_parts(candidates.edges, better, worse)
    counted = _parted(candidates.edges, better, worse) & _there(candidates.edges, better, worse)
    lost = (apart - torch.from_numpy(wanted).to(apart)) ** 2
    return _mean_of_groups(lost, counted, groups)


def prefix_parts(edges: Int, better: Int, worse: Int) -> npt.NDArray[np.float64]:
    """Give the part of a whole margin that prefixes of each length should show: growing, concave, 1 at the end.

    >>> edges = np.array([[0, 4, 7], [1, 5, -1]])
    >>> prefix_parts(edges, np.array([0]), np.array([1])).round(2).tolist()
    [[0.5, 0.79, 1.0]]
    """
    lengths = np.maximum((edges[better] >= 0).sum(axis=1), (edges[worse] >= 0).sum(axis=1))
    step = np.minimum(np.arange(1, edges.shape[1] + 1)[None, :], lengths[:, None])
    found: npt.NDArray[np.float64] = np.log1p(step) / np.log1p(lengths)[:, None]
    return found


def _pairs(candidates: Candidates, least: float) -> tuple[Int, Int]:
    """List pairs of candidates of one request with more weight than `least`, the one with more weight first."""
    groups, weights = candidates.groups, candidates.weights
    better, worse = [], []
    for group in np.split(np.arange(len(groups)), np.flatnonzero(np.diff(groups)) + 1):
        own = weights[group]
        first, second = np.nonzero((own[:, None] > own[None, :]) & (own[None, :] > least))
        better.append(group[first])
        worse.append(group[second])
    return np.concatenate(better), np.concatenate(worse)


def _parted(edges: Int, better: Int, worse: Int) -> npt.NDArray[np.bool_]:
    """Mark the branchings at which, or behind which, a pair's identifiers have parted, (pairs, branchings)."""
    parted: npt.NDArray[np.bool_] = np.logical_or.accumulate(edges[better] != edges[worse], axis=1)
    return parted


def _there(edges: Int, better: Int, worse: Int) -> npt.NDArray[np.bool_]:
    """Mark the branchings that one of a pair has, (pairs, branchings)."""
    there: npt.NDArray[np.bool_] = (edges[better] >= 0) | (edges[worse] >= 0)
    return there


def _mean_of_groups(lost: Tensor, counted: npt.NDArray[np.generic], groups: Int) -> Tensor:
    """Average within each request, and sum over requests."""
    share = counted.astype(np.float64)
    total = np.zeros(int(groups.max()) + 1)
    np.add.at(total, groups, share.sum(axis=1))
    share /= np.maximum(total[groups], 1e-12)[:, None]
    return (lost * torch.from_numpy(share).to(lost)).sum()


def _listwise(candidates: Candidates) -> Tensor:
    whole, groups = candidates.whole, candidates.groups
    count = int(groups.max(initial=-1)) + 1
    totals = np.zeros(count)
    np.add.at(totals, groups, candidates.weights)
    shares = candidates.weights / np.maximum(totals[groups], 1e-12)
    rows = torch.from_numpy(groups).to(whole.device)
    log_shares = whole - grouped_log_sums(whole, rows, count)[rows]
    return -(torch.from_numpy(shares).to(whole) * log_shares).sum()
