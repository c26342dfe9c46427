"""New items: what is known of items that came after the model was trained, and how they get their share.

A model that learnt from histories hardly ever writes an item that no history held. So such items are decoded apart,
judged together with the others on one scale, and mixed in by a stated policy. Until `Engine.calibrate_new_items` has
learnt from the user's own interactions how the two compare, ``auto`` mixes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.constraints.index import Subset
from genrail.decoding import BeamSettings, Decoded, DecodeTrace, ExactSettings
from genrail.decoding.decoders import Decoder
from genrail.errors import SettingsError
from genrail.finders.new_item_scores import Calibration, Judged, Observations, observe
from genrail.finding import FindOptions, Request
from genrail.identifiers import saved

if TYPE_CHECKING:
    from genrail.finders.generative import Generative
    from genrail.models.native import NativeModel

__all__ = ["Memory", "Mixing", "Newcomers", "mix", "mixed_answers", "newcomers", "observations"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]

LIKE = 20  # items that a new one begins like; 5, 10, 50 find less on validation (docs/results.md)
SHARPNESS = 0.1  # of the softmax over their cosines
CHUNK = 65_536  # rows compared at a time
KIND = "genrail.memory"
NAME = "memory"


@dataclass(frozen=True, eq=False)
class Memory:
    """Remember which items the model was trained on, and who was taken with whom.

    Args:
        seen: Whether some training history held the item, (rows,).
        together: Co-purchase vector of each item, (rows, dimensions); those of new items are guessed from their texts.
        trained: How many rows the catalogue had when the model was trained last; later ones that were not seen are new.
        calibration: How new and other items are put on one scale, learnt from the user's interactions; None before.
    """

    seen: npt.NDArray[np.bool_]
    together: Float
    trained: int
    calibration: Calibration | None = None

    @property
    def new(self) -> npt.NDArray[np.bool_]:
        """Tell which rows came after the training, shape (rows,)."""
        return ~self.seen & (np.arange(len(self.seen)) >= self.trained)

    def like(
        self, vectors: Float, known: Callable[[Int], Float], parts: Sequence[int] | None = None
    ) -> tuple[Int, Float]:
        """Find the trained items whose texts are nearest.

        Args:
            vectors: Of the new items, centred and of length 1, (n, dimensions).
            known: Gives the same of catalogue rows.
            parts: How many of the new items came together, each time; a matrix product rounds differently with the
                number of rows, and what came apart is compared apart, so that a log repeats to the bit.

        Returns:
            Rows (n, m) and weights (n, m), each row of which sums to 1; m is `LIKE`, or as many as were trained.

        Cost: O(n * rows * dimensions).
        """
        rows = np.flatnonzero(self.seen)
        ends = np.cumsum([len(vectors)] if parts is None else list(parts)).tolist()
        spans = [vectors[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
        nearest = [(np.zeros((len(span), 0), np.int64), np.zeros((len(span), 0), np.float32)) for span in spans]
        for begin in range(0, len(rows), CHUNK):
            part = rows[begin : begin + CHUNK]
            theirs = known(part)
            nearest = [_nearer(*found, part, span @ theirs.T) for found, span in zip(nearest, spans, strict=True)]
        best, cosine = (np.concatenate(sides) for sides in zip(*nearest, strict=True))
        weights = np.exp((cosine - cosine.max(axis=1, keepdims=True, initial=-1.0)) / SHARPNESS)
        return best, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)

    def grown(
        self, model: NativeModel, vectors: Float, parts: Sequence[int] | None = None
    ) -> tuple[Memory, tuple[Int, Float] | None]:
        """Remember further rows, which nobody has taken; their co-purchase vectors are guessed from like items.

        Args:
            model: That was trained on the items seen.
            vectors: Text vectors of the new rows, (n, dimensions).
            parts: How many of them came together, each time; see `like`.

        Returns:
            The next memory, and which rows the new ones are like with weights, see `like`; None where none was trained.
        """
        like, together = None, np.zeros((len(vectors), self.together.shape[1]), dtype=np.float32)
        if self.seen.any():
            texts = unit(vectors - model.network.text_mean.numpy())
            like = self.like(texts, lambda rows: centred(model, rows), parts)
            together = np.einsum("nm,nmd->nd", like[1], self.together[like[0]]).astype(np.float32)
        seen = np.concatenate([self.seen, np.zeros(len(vectors), dtype=np.bool_)])
        return replace(self, seen=seen, together=np.concatenate([self.together, together])), like

    def taught(self, rows: npt.ArrayLike, trained: int) -> Memory:
        """Remember that the model was trained on histories that held these rows, when there were `trained` rows."""
        seen = self.seen.copy()
        seen[np.asarray(rows, dtype=np.int64)] = True
        return replace(self, seen=seen, trained=trained)

    def save(self, folder: Path) -> None:
        """Write ``memory.json`` and two arrays into an existing folder."""
        arrays = {"seen": self.seen, "together": self.together}
        calibration = None if self.calibration is None else self.calibration.to_dict()
        saved.write(folder, NAME, KIND, {"calibration": calibration, "trained": self.trained}, arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DamagedError: A file is missing, truncated or altered.
            FormatError: Something else lies there, or a newer format.
        """
        found = saved.read(folder, NAME, KIND)
        page, seen = found.details, found.arrays["seen"]
        if "trained" not in page:  # written before 0.2, with defaults that were learnt on another catalogue
            return cls(seen, found.arrays["together"], len(seen))
        calibration = None if page["calibration"] is None else Calibration.from_dict(page["calibration"])
        return cls(seen, found.arrays["together"], int(page["trained"]), calibration)


def _nearer(best: Int, cosine: Float, rows: Int, others: Float) -> tuple[Int, Float]:
    """Keep the `LIKE` nearest of those found before and further rows; of equals the first."""
    best = np.concatenate([best, np.tile(rows, (len(others), 1))], axis=1)
    cosine = np.concatenate([cosine, others], axis=1)
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :LIKE]
    return np.take_along_axis(best, order, axis=1), np.take_along_axis(cosine, order, axis=1)


@dataclass(frozen=True, eq=False)
class Newcomers:
    """Divide the live items of one edition into those the model was trained on and the new ones.

    Args:
        rows: Which rows are live and new, (rows,).
        new: The same, compiled by the index.
        known: All other live items, compiled by the index.
    """

    rows: npt.NDArray[np.bool_]
    new: Subset
    known: Subset


@dataclass(frozen=True, eq=False)
class Mixing:
    """Hold what mixing needs to know of a finder.

    Args:
        model: That was trained.
        memory: What it was trained on; None where it never learnt from histories.
        newcomers: The new items; None where there are none.
    """

    model: NativeModel
    memory: Memory | None
    newcomers: Newcomers | None


def newcomers(finder: Generative, memory: Memory | None) -> Newcomers | None:
    """Find the new items of a finder; None where there are none, or where the model never learnt from histories."""
    if memory is None:
        return None
    rows = finder.catalog.live & memory.new
    if not rows.any() or not memory.seen.any():
        return None
    new = finder.index.subset(rows)
    return Newcomers(rows, new, ~new)


def mixed_answers(
    finder: Generative,
    asked: Mixing,
    requests: Sequence[Request],
    contexts: Sequence[object],
    k: int,
    options: FindOptions,
) -> list[tuple[Decoded, list[DecodeTrace | None]]]:
    """Decode requests, and mix new items in where their policy asks for it.

    ``auto`` mixes for a history without words, once new items have been calibrated: words find new items by their texts
    as it is. A share mixes whatever was asked. Both need a decoder that looks for the most probable items (beam or
    exact); ``auto`` leaves others alone.

    Args:
        finder: What is asked.
        asked: Its model, what it remembers, and its new items.
        requests: What is wanted.
        contexts: What the model reads.
        k: Items wanted.
        options: See `Finder.find`.

    Returns:
        The answer to each request, and the traces of the decodes it was made of.

    Raises:
        SettingsError: A share, with another decoder than beam or exact.

    Cost: a request that mixes costs two decodes.
    """
    divided = _divided(asked, requests, finder.decoder(options))
    subsets = [finder.subset_of(request) for request in requests]
    mixing = [place for place, one in enumerate(divided) if one is not None]
    plain = [place for place in range(len(requests)) if divided[place] is None]
    found: dict[int, tuple[Decoded, list[DecodeTrace | None]]] = {}

    def find(places: list[int], allowed: Sequence[Subset | None], count: int) -> list[Decoded]:
        return finder.decode([contexts[place] for place in places], allowed, count, options)

    if plain:
        for place, one in zip(plain, find(plain, [subsets[place] for place in plain], k), strict=True):
            found[place] = one, [one.trace]
    if mixing:
        count = max(k, getattr(finder.decoder(options), "width", k))
        parts: list[Newcomers] = [one for one in divided if one is not None]
        known = find(
            mixing, [_within(part.known, subsets[place]) for place, part in zip(mixing, parts, strict=True)], count
        )
        new = find(
            mixing, [_within(part.new, subsets[place]) for place, part in zip(mixing, parts, strict=True)], count
        )
        for place, one, other in zip(mixing, known, new, strict=True):
            request = requests[place]
            judged = _judge(asked, request, one, other)
            found[place] = mix(one, other, judged, request.new_items, k), [one.trace, other.trace]
    return [found[place] for place in range(len(requests))]


def _divided(asked: Mixing, requests: Sequence[Request], decoder: Decoder) -> list[Newcomers | None]:
    """Say for each request between which items it mixes; None where it does not mix."""
    if all(request.new_items == "off" for request in requests) or asked.newcomers is None:
        return [None] * len(requests)
    probable = isinstance(decoder, BeamSettings | ExactSettings)
    if not probable and any(not isinstance(request.new_items, str) for request in requests):
        raise SettingsError(
            f"a share of new items needs the most probable items, and {type(decoder).__name__} finds others; "
            "give new_items='off', or search by beam"
        )
    memory = asked.memory
    calibrated = memory is not None and memory.calibration is not None
    mixes = [
        probable and calibrated and request.text is None and bool(request.history.size)
        if request.new_items == "auto"
        else request.new_items != "off"
        for request in requests
    ]
    return [asked.newcomers if one else None for one in mixes]


def _within(part: Subset, subset: Subset | None) -> Subset:
    return part if subset is None else part & subset


def _judge(asked: Mixing, request: Request, known: Decoded, new: Decoded) -> Judged:
    """Put both answers on one scale: by calibration for a history alone, else by log-probability."""
    memory = asked.memory
    if memory is None or memory.calibration is None or request.text is not None or not request.history.size:
        return Judged(known.log_probabilities, new.log_probabilities, new.log_probabilities)
    return memory.calibration.judge(observations(asked.model, memory, request.history, known, new))


def observations(model: NativeModel, memory: Memory, history: Int, known: Decoded, new: Decoded) -> Observations:
    """Gather what the calibration looks at."""
    past = np.asarray(history, dtype=np.int64)[-model.settings.history :]
    rows = np.concatenate([past, known.rows, new.rows])
    texts = centred(model, rows)
    together = unit(memory.together[rows])
    cuts = [len(past), len(past) + len(known.rows)]
    return observe(np.split(texts, cuts), np.split(together, cuts), known.log_probabilities, new.log_probabilities)


def centred(model: NativeModel, rows: Int) -> Float:
    """Give the text vectors of rows without what all texts have in common, of length 1, (rows, dimensions)."""
    from genrail.models.native_warm_start import item_vectors

    return unit(item_vectors(model, rows) - model.network.text_mean.numpy())


def unit(vectors: Array) -> Float:
    """Scale rows to length 1; zero stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Float = (vectors / np.maximum(lengths, 1e-6)).astype(np.float32)
    return scaled


def mix(known: Decoded, new: Decoded, judged: Judged, policy: str | float, k: int) -> Decoded:
    """Make one answer of two that share no item.

    Known items keep their scores and so their order; new ones only make some of them give way. With ``auto`` the k
    items with the best chances stay, at most `Calibration.most` of them new. With a share, that share of k is new,
    rounded. Where one side has too few items, the other fills the answer.

    Args:
        known: Items that the model was trained on, best first, min(k, allowed) or more.
        new: The others, likewise.
        judged: Chances of both, and scores for the new ones on the scale of the known ones' scores.
        policy: ``auto``, or a share from 0 to 1.
        k: Items wanted.
    """
    least, best = len(known.rows[:k]), np.argsort(-judged.new, kind="stable")
    if policy == "auto":
        taken = _best_chances(judged, best, least, k)
    else:
        taken = int(float(policy) * k + 0.5)
    taken = min(max(taken, k - least), len(new.rows), k)
    gone = max(0, least + taken - k)
    stays = np.ones(least, dtype=np.bool_)
    if policy == "auto":
        stays[np.lexsort((-np.arange(least), judged.known[:least]))[:gone]] = False
    else:
        stays[least - gone :] = False
    kept, added = np.flatnonzero(stays), best[:taken]
    scores = np.concatenate([known.scores[kept], judged.scores[added]])
    order = np.argsort(-scores, kind="stable")

    def merged(one: Array, other: Array) -> Array:
        joined: Array = np.concatenate([one[kept], other[added]])[order]
        return joined

    tokens = [known.tokens[place] for place in kept] + [new.tokens[place] for place in added]
    return Decoded(
        merged(known.rows, new.rows),
        merged(known.log_probabilities, new.log_probabilities),
        [tokens[place] for place in order],
        len(order) < k,
        known.trace,
        scores[order],
        max(known.bound, new.bound),
    )


def _best_chances(judged: Judged, best: Int, known: int, k: int) -> int:
    """Count the new items among the k best chances; where chances are equal the known ones stay."""
    chances = np.concatenate([judged.known[:known], judged.new[best]])
    first = np.argsort(-chances, kind="stable")[:k]
    return min(int((first >= known).sum()), int(judged.most * k + 0.5))
