"""What quantizers have in common once they are fitted: frozen arrays, a fingerprint, a folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.errors import DamagedError, IdentifierError, SettingsError
from genrail.identifiers import saved
from genrail.identifiers.quantizer import NAME, Float, checked_vectors
from genrail.rng import generator

__all__ = ["Codebooks", "vectors_to_fit"]


class Codebooks(ABC):
    """Hold what a quantizer has learnt as float32 arrays that nothing changes any more.

    A quantizer that inherits this says four things of itself: `on_disk`, its kind in a page; `described`, its name in
    messages; `settings`, the arguments of its constructor, which are attributes too; and `identity`, those of them that
    belong to its fingerprint. It fills the arrays with `_set`, and tells by `_expected` which shapes they must have.
    """

    on_disk: ClassVar[str]
    described: ClassVar[str]
    settings: ClassVar[tuple[str, ...]]
    identity: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self._arrays: dict[str, Float] = {}

    @property
    def dimensions(self) -> int:
        """Give the width of the vectors it was fitted on."""
        return len(self._fitted()["mean"])

    @property
    def fingerprint(self) -> str:
        """Identify what was learnt."""
        own = {name: getattr(self, name) for name in self.identity}
        return saved.fingerprint({"kind": self.on_disk, **own}, self._fitted())

    def save(self, folder: str | Path) -> None:
        """Write arrays and settings into an existing folder.

        Raises:
            IdentifierError: Not fitted yet.
        """
        details = {name: getattr(self, name) for name in self.settings}
        saved.write(Path(folder), NAME, self.on_disk, details, self._fitted())

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DamagedError: A file is missing, truncated or altered.
            FormatError: Another kind of quantizer lies there, or a newer format.
        """
        found = saved.read(Path(folder), NAME, cls.on_disk)
        try:
            made = cls(**found.details)
            made._set(found.arrays)
            for name, shape in made._expected().items():
                if found.arrays[name].shape != shape:
                    raise TypeError(f"{name} of shape {found.arrays[name].shape} do not fit {shape}")
        except (TypeError, KeyError, IndexError, SettingsError) as error:
            raise DamagedError(f"{Path(folder) / NAME}.json does not describe {cls.described}: {error}") from error
        return made

    @abstractmethod
    def _expected(self) -> dict[str, tuple[int, ...]]:
        """Say which shape each array must have, by the settings and `dimensions`."""

    def _fitted(self) -> dict[str, Float]:
        if not self._arrays:
            raise IdentifierError("this quantizer is not fitted; call fit(vectors) first, or load a saved folder")
        return self._arrays

    def _set(self, arrays: dict[str, Array]) -> None:
        self._arrays = {name: np.array(array, dtype=np.float32, order="C") for name, array in arrays.items()}
        for array in self._arrays.values():
            array.setflags(write=False)


def vectors_to_fit(vectors: npt.ArrayLike, most: int | None = None, seed: int = 0, what: str = "") -> Float:
    """Check vectors that codebooks are fitted on; of more than `most`, draw so many by seed, in their order.

    Raises:
        IdentifierError: No vectors at all, or a vector with NaN or infinity.
        ShapeError: Not two-dimensional.
    """
    checked = checked_vectors(vectors)
    if len(checked) == 0:
        raise IdentifierError("there are no vectors to fit codebooks on; give at least one item")
    if most is None or len(checked) <= most:
        return checked
    return checked[np.sort(generator(seed, what).choice(len(checked), most, replace=False))]
