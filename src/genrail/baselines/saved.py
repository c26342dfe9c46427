"""Write and read the folder of a baseline: one JSON file of settings, and arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from genrail.errors import DamagedError, FingerprintError, FormatError

if TYPE_CHECKING:
    from genrail.catalog import Catalog

__all__ = ["load_array", "load_settings", "load_vocabulary", "save_settings", "save_vocabulary"]

FORMAT = 1
FILE = "baseline.json"


def save_settings(folder: str | Path, kind: str, catalog: Catalog, settings: dict[str, Any]) -> Path:
    """Write ``baseline.json``, making the folder when it is missing, and return the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    values = {"format": FORMAT, "kind": kind, "catalog": catalog.fingerprint, "settings": settings}
    (folder / FILE).write_text(json.dumps(values, ensure_ascii=False, indent=1), encoding="utf-8")
    return folder


def load_settings(folder: str | Path, kind: str, catalog: Catalog) -> dict[str, Any]:
    """Read ``baseline.json`` and check that it is of this kind and was made with this catalogue.

    Raises:
        DamagedError: The file is missing or is not JSON.
        FormatError: Another kind of baseline, or a newer format.
        FingerprintError: Made with another catalogue.
    """
    path = Path(folder) / FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found, version, fingerprint = values["kind"], values["format"], values["catalog"]
        settings = dict(values["settings"])
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing; save the baseline again") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{path} cannot be read ({error}); save the baseline again") from None
    if found != kind:
        raise FormatError(f"{path} holds a {found!r}, not a {kind!r}; load it with the class that saved it")
    if version != FORMAT:
        raise FormatError(f"{path} has format {version}, this version reads {FORMAT}; update genrail")
    if fingerprint != catalog.fingerprint:
        raise FingerprintError(f"{folder} was made with another catalogue; load that one, or make the baseline again")
    return settings


def load_array(path: Path) -> npt.NDArray[Any]:
    """Read one .npy file, never running what it holds.

    Raises:
        DamagedError: The file is missing or cut.
    """
    try:
        array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
        return array
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing; save the baseline again") from None
    except (ValueError, EOFError, OSError) as error:
        raise DamagedError(f"{path} cannot be read ({error}); save the baseline again") from None


def save_vocabulary(folder: Path, vocabulary: dict[str, int]) -> None:
    """Write the words with their numbers as JSON."""
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")


def load_vocabulary(folder: str | Path, terms: int) -> dict[str, int]:
    """Read the words with their numbers.

    Raises:
        DamagedError: Missing, not JSON, or a number beyond the terms.
    """
    path = Path(folder) / "vocabulary.json"
    try:
        vocabulary: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
        if any(not 0 <= term < terms for term in vocabulary.values()):
            raise DamagedError(f"{path} numbers a word beyond the {terms} terms; save the baseline again")
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing; save the baseline again") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path} cannot be read ({error}); save the baseline again") from None
    return vocabulary
