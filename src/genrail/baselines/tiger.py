"""TIGER as a retriever: the reference that generative recommenders are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from genrail.baselines.answers import Answers, Request, tie_order
from genrail.baselines.popularity import NO_WORDS, event_counts, load_counts, popular_first
from genrail.baselines.saved import load_settings, save_settings
from genrail.constraints import Trie
from genrail.decoding import BeamSettings, beam_search
from genrail.decoding.answers import Decoded
from genrail.errors import FingerprintError, ShapeError
from genrail.models.tiger import TigerModel, TigerSettings
from genrail.training.loop import LoopReport, Progress
from genrail.training.tiger import TigerTraining, train_tiger
from genrail.types import Query, Ranking

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.evaluation.splits import FlatSequences, HeldOut

__all__ = ["TIGER"]


class TIGER:
    """Write the Semantic ID of the next item with a T5 trained from scratch (Rajput et al. 2023).

    Every answer is a real, allowed item: a trie keeps the beams on the catalogue, where the paper drops invalid ids
    afterwards. Words are not read: a query with words only is answered by popularity, with a warning.

    Args:
        catalog: The items.
        sequences: The training events, rows of this catalogue, each user's in order.
        codes: Semantic ID of each item, shape (items, levels), such as `IdentifierTable.matrix()`.
        settings: How large the T5 is.
        training: How it learns.
        beam: Beams of an answer; raised to k by itself.
        validation: Histories and withheld next items; the epoch with the highest nDCG@10 there is kept.
        device: Where it learns and answers, such as ``"cuda"``.
        seed: Of initial weights, batches, dropout, and of the order between items nobody knows anything about.
        progress: Called after each step.
        checkpoint: A file that training resumes from if it exists, see `genrail.training.loop.run`.

    Raises:
        ShapeError: Events outside the catalogue, or another number of codes than items.

    >>> from genrail.catalog import Catalog
    >>> from genrail.evaluation import Training
    >>> from genrail.training.loop import LoopSettings
    >>> shop = Catalog.from_items([{"id": name, "title": name} for name in "abcd"])
    >>> events = Training(["u", "v"], np.array([0, 3, 6]), np.array([0, 1, 2, 0, 1, 2]))
    >>> small = TigerSettings(width=16, layers=1, heads=1, head_width=8, feed_forward=16, dropout=0.0)
    >>> quick = TigerTraining(LoopSettings(epochs=60, learning_rate=0.02, warm_up=5))
    >>> method = TIGER(shop, events, [[0, 0], [0, 1], [1, 0], [1, 1]], small, quick)
    >>> method.search_batch([Query(history=["a", "b"])], k=1)[0].item_ids
    ['c']
    """

    name = "TIGER"

    def __init__(
        self,
        catalog: Catalog,
        sequences: FlatSequences,
        codes: npt.ArrayLike,
        settings: TigerSettings | None = None,
        training: TigerTraining | None = None,
        *,
        beam: int = 50,
        validation: HeldOut | None = None,
        device: str = "cpu",
        seed: int = 0,
        progress: Callable[[Progress], None] | None = None,
        checkpoint: str | Path | None = None,
    ) -> None:
        model = TigerModel(codes, settings, seed).to(device)
        counts = event_counts(sequences, len(catalog))
        self._set(catalog, model, counts, beam, seed)
        cases = (
            []
            if validation is None
            else [(validation.history(user).tolist(), int(validation.targets[user])) for user in range(len(validation))]
        )
        events = (np.asarray(sequences.rows, dtype=np.int64), np.asarray(sequences.offsets, dtype=np.int64))
        self.report: LoopReport | None = train_tiger(model, events, training, cases, seed, progress, checkpoint)

    def _set(self, catalog: Catalog, model: TigerModel, counts: npt.NDArray[np.int64], beam: int, seed: int) -> None:
        if len(model.codes) != len(catalog):
            raise ShapeError(f"{len(model.codes)} rows of codes for {len(catalog)} items; give each item its codes")
        self.catalog = catalog
        self.model = model
        self.counts = counts
        self.beam = beam
        self.seed = seed
        self._trie = Trie.from_matrix(model.tokens, model.pad)
        self._answers = Answers(catalog, precedence=popular_first(counts, tie_order(len(catalog), seed)))

    def search_batch(self, queries: Sequence[Query], k: int = 10) -> list[Ranking]:
        """Rank the k best items for each query.

        Raises:
            QueryError: k below 1, or a history without a single known item and no words.
            FilterError: A filter that does not parse or names an unknown field.
        """
        requests = self._answers.requests(queries, k)
        known = [request for request in requests if len(request.history)]
        decoded = iter(
            beam_search(
                self.model,
                [self.model.context(request.history.tolist()) for request in known],
                self._trie,
                BeamSettings(width=self.beam),
                [self._trie.subset(request.allowed) for request in known],
                k,
            )
        )
        return [self._ranking(request, next(decoded) if len(request.history) else None, k) for request in requests]

    def _ranking(self, request: Request, answer: Decoded | None, k: int) -> Ranking:
        if answer is None:
            request.warnings.append(NO_WORDS)
            return self._answers.ranking(request, self.counts.astype(np.float64), k)
        if request.text:
            request.warnings.append("this method does not read words: the answer is by the history alone")
        return self._answers.listed(request, answer.rows, answer.log_probabilities, k, probabilistic=True)

    def save(self, folder: str | Path) -> None:
        """Write settings, counts, codes and weights into a folder."""
        folder = save_settings(
            folder,
            "tiger",
            self.catalog,
            {"seed": self.seed, "beam": self.beam, "model": self.model.fingerprint, **asdict(self.model.settings)},
        )
        np.save(folder / "counts.npy", self.counts)
        self.model.save(folder)

    @classmethod
    def load(cls, folder: str | Path, catalog: Catalog, device: str = "cpu") -> TIGER:
        """Read what `save` wrote.

        Raises:
            DamagedError, FormatError, FingerprintError: A folder that is not whole, not ours, or of another catalogue.
        """
        values = load_settings(folder, "tiger", catalog)
        model = TigerModel.load(folder)
        if model.fingerprint != values["model"]:
            raise FingerprintError(f"{folder} holds the weights of another TIGER; save it again")
        made = cls.__new__(cls)
        made._set(catalog, model.to(device), load_counts(folder, catalog), values["beam"], values["seed"])
        made.report = None
        return made
