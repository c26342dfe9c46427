"""Two towers: dense retrieval whose queries are read by a tower that learnt which items answer them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, cast

import numpy as np
import numpy.typing as npt

from genrail.errors import DamagedError, StorageError
from genrail.finders.arrays import load_array, save_arrays
from genrail.finders.dense import Dense, Encodes, encoder_details, named_encoder, unit_vectors
from genrail.finders.made_up import made_up
from genrail.finders.parts import Rows
from genrail.finders.scoring import check_content
from genrail.finding.finder import Finder, Json, Progress, Recipe
from genrail.rng import generator
from genrail.training.pseudo_queries import QueryMaking
from genrail.types import JsonObject, silent

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.finding.data import Data
    from genrail.models.text_encoder import Encoder, TextEncoder
    from genrail.training.loop import Progress as LoopProgress
    from genrail.training.two_tower import TwoTowerReport, TwoTowerSettings

__all__ = ["Headed", "TwoTower", "TwoTowerRecipe"]

Vectors = npt.NDArray[np.float32]
PSEUDO_ITEMS = 2000  # that queries are made up for where none is judged: the head has few weights
PSEUDO_QUERIES = 4  # of each of them, one of each kind
CHECKPOINT = "queries"  # folder of the tower, where a whole transformer learnt


class Headed:
    """Turn the vectors of a text encoder by a linear map, ``v + head @ v``, scaled to length 1.

    Args:
        encoder: Encodes texts.
        head: (dimensions, dimensions).
    """

    def __init__(self, encoder: Encodes, head: Vectors) -> None:
        self.encoder = encoder
        self.head = head

    def encode(self, texts: list[str]) -> Vectors:
        """Give one vector per text, (texts, dimensions)."""
        vectors = np.asarray(self.encoder.encode(texts), dtype=np.float32)
        # One product per text: a product for all at once rounds otherwise, and the order would depend on the batch.
        turned = np.stack([vector + self.head @ vector for vector in vectors])
        return unit_vectors(turned, len(texts), "queries")


class TwoTower(Dense):
    """Rank items by the cosine of their text's vector with that of a query tower which learnt from judged queries.

    Made by `TwoTowerRecipe.build`. Everything else is as in `Dense`.

    Source: Karpukhin et al. 2020 (DPR); Xiong et al. 2021 (ANCE).

    >>> from genrail.catalog import Catalog
    >>> from genrail.finding import Data
    >>> shop = Catalog.from_items([{"id": "a", "title": "trail shoes"}, {"id": "b", "title": "wool hat"}])
    >>> towers = TwoTowerRecipe().build(Data(shop, text_encoder="hashing"), lambda stage, done, total: None)
    >>> towers.search("shoes", k=1).item_ids
    ['a']
    """

    name = "Two towers"
    _report: TwoTowerReport | None = None

    @classmethod
    def learnt(
        cls, catalog: Catalog, recipe: TwoTowerRecipe, items: Encodes, queries: Encodes, vectors: Vectors, seed: int
    ) -> Self:
        """Put together what was learnt."""
        made = cls.__new__(cls)
        unit = unit_vectors(vectors, len(catalog), "catalogue rows")
        made._set(catalog, recipe, items, queries, Rows.of(unit), None, seed)
        return made

    @property
    def report(self) -> TwoTowerReport | None:
        """Tell what the training in this process did."""
        return self._report

    def save(self, folder: Path) -> dict[str, Json]:
        """Write vectors and what was learnt: a matrix, or a checkpoint as safetensors."""
        details = super().save(folder)
        shared = self.item_encoder is self.query_encoder
        if isinstance(self.query_encoder, Headed):
            save_arrays(folder, {"head": self.query_encoder.head})
            tower = "head"
        else:
            cast("TextEncoder", self.query_encoder).model.save(str(folder / CHECKPOINT), create_model_card=False)
            tower = "both" if shared else "query"
        limit = getattr(self.query_encoder, "max_tokens", None)
        named = None if shared else encoder_details(self.item_encoder)
        return {**details, "tower": tower, "max_tokens": limit, "encoder": named, "query_encoder": None}

    @classmethod
    def load(
        cls,
        folder: Path,
        details: JsonObject,
        catalog: Catalog,
        encoder: Encoder | None = None,
        query_encoder: Encodes | None = None,
    ) -> Self:
        """Read what `save` wrote.

        Raises:
            DamagedError: A file is missing or cut, or of another catalogue.
            FingerprintError: An encoder that is not the one it was made with.
        """
        width = int(details["dimensions"])
        vectors = load_array(folder, "vectors", np.float32, (len(catalog), width), mapped=True)
        tower = details["tower"]
        items: Encodes
        queries: Encodes
        if tower == "head":
            items = named_encoder(details["encoder"], encoder)
            queries = Headed(items, load_array(folder, "head", np.float32, (width, width)))
        else:
            queries = _checkpoint(folder / CHECKPOINT, details["max_tokens"])
            items = queries if tower == "both" else named_encoder(details["encoder"], encoder)
        recipe = TwoTowerRecipe.from_dict(details["recipe"])
        made = cls.__new__(cls)
        made._set(catalog, recipe, items, queries, Rows.of(vectors), None, int(details["seed"]))
        return made


@dataclass(frozen=True)
class TwoTowerRecipe(Recipe):
    """Say how the towers learn and how a history is read.

    Args:
        towers: How they learn, see `TwoTowerSettings`; None for its defaults: a linear map behind the query tower,
            which learns in seconds and leaves the items' vectors as they are.
        decay: What each step back in a history costs: as for words.
        history: How many of the last items count; what is further back weighs less than 0.1 %.

    Raises:
        SettingsError: A setting outside its range.
    """

    towers: TwoTowerSettings | None = None
    decay: float = 0.7
    history: int = 20

    kind: ClassVar[str] = "two-tower"
    finder: ClassVar[type[Finder]] = TwoTower
    learns_queries: ClassVar[bool] = True
    needs_queries: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.towers, dict):  # from a manifest
            from genrail.training.loop import LoopSettings
            from genrail.training.two_tower import TwoTowerSettings

            values: JsonObject = dict(self.towers)
            values["loop"], values["kept"] = LoopSettings(**values["loop"]), tuple(values["kept"])
            object.__setattr__(self, "towers", TwoTowerSettings(**values))
        check_content(self.decay, self.history)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """Read what `to_dict` gave; settings of `TwoTowerSettings` can be given by themselves, such as ``epochs``."""
        if set(values) - {one.name for one in fields(cls)} and values.get("towers") is None:
            from genrail.training.two_tower import TwoTowerSettings

            settings = TwoTowerSettings()
            values = {**values, "towers": settings}
        return super().from_dict(values)

    def build(self, data: Data, progress: Progress) -> TwoTower:
        """Learn from judged queries, or from queries made up of the items' texts where there are none."""
        from genrail.models.library_network import LibraryNetwork
        from genrail.models.text_encoder import TextEncoder
        from genrail.training.two_tower import TwoTowerSettings, learn_two_towers

        settings = self.towers or TwoTowerSettings()
        queries, relevant = _lessons(data)
        texts, vectors = data.catalog.texts(), data.text_vectors(progress)
        encoder = data.encoder if settings.train == "head" else data.encoder.loaded

        def told(number: int, now: LoopProgress) -> None:
            progress("training two towers", number * now.epochs + now.epoch, settings.rounds * now.epochs)

        learnt, report = learn_two_towers(
            encoder, texts, queries, relevant, settings, vectors=vectors, seed=data.seed, progress=told
        )
        items: Encodes = data.encoder
        tower: Encodes
        if learnt.head is not None:
            tower = Headed(data.encoder, learnt.head)
        else:
            fingerprint = f"{data.encoder.fingerprint} two towers"
            tower = TextEncoder("two towers", LibraryNetwork(learnt.model), fingerprint, folder=Path())
            if settings.train == "both":
                items, vectors = tower, np.asarray(tower.encode(texts), dtype=np.float32)
        made = TwoTower.learnt(data.catalog, self, items, tower, vectors, data.seed)
        made._report = report
        return made


def _lessons(data: Data) -> tuple[Mapping[str, str], dict[str, Sequence[int]]]:
    """Give queries and the rows of their right items: judged ones, or made-up ones."""
    judged = data.judged
    if judged and data.queries is not None:
        rows = {
            query_id: data.catalog.rows([item_id for item_id, grade in grades.items() if grade > 0]).tolist()
            for query_id, grades in judged.items()
        }
        return data.queries, {query_id: [row for row in right if row >= 0] for query_id, right in rows.items()}
    live = np.flatnonzero(data.catalog.live)
    live = np.sort(generator(data.seed, "two towers", "items").permutation(live)[:PSEUDO_ITEMS])
    made = made_up(data, live, PSEUDO_QUERIES, QueryMaking(), silent)
    ids = [str(number) for number in range(len(made.queries))]
    right: dict[str, Sequence[int]] = {query_id: [row] for query_id, row in zip(ids, made.rows.tolist(), strict=True)}
    return dict(zip(ids, made.queries, strict=True)), right


def _checkpoint(folder: Path, max_tokens: int | None) -> Encodes:
    """Open the tower of the queries.

    Raises:
        DamagedError: It is not whole.
    """
    from genrail.models.text_encoder import TextEncoder

    try:
        return TextEncoder.load(folder, max_tokens=max_tokens)
    except StorageError:
        raise
    except Exception as error:  # whatever the libraries raise over a damaged checkpoint
        raise DamagedError(f"{folder} cannot be read ({error}); restore the folder or build it again") from None
