"""Vectors that were computed before, found again by the text and the encoder that made them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["VectorCache"]

Float = npt.NDArray[np.float32]
MOST_FILES = 32  # beyond, `put` merges them into one


class VectorCache:
    """Keep vectors by text in ``folder/<fingerprint>/``.

    Each file is one array of (key, vector) records, named by the digest of its content and renamed into place when
    whole. So a crash leaves nothing half, several processes may write at once, and an altered file is ignored: its
    texts are merely encoded again. Deleting the folder is always safe.

    Args:
        folder: Created when absent.
        fingerprint: Of the encoder.
        dimensions: Width of the vectors.
    """

    def __init__(self, folder: str | Path, fingerprint: str, dimensions: int) -> None:
        self.folder = Path(folder) / fingerprint
        self._read: dict[Path, npt.NDArray[np.void]] = {}  # records, ascending by key
        self._record = np.dtype([("key", "S32"), ("vector", "<f4", (dimensions,))])

    def get(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.bool_], Float]:
        """Look texts up: which were found, shape (n,), and their vectors, shape (n, dimensions), else zeros."""
        keys = _keys(texts)
        found = np.zeros(len(keys), dtype=np.bool_)
        vectors = np.zeros((len(keys), self._record["vector"].shape[0]), dtype=np.float32)
        for records in self._files().values():
            places = np.minimum(np.searchsorted(records["key"], keys), len(records) - 1)
            hits = records["key"][places] == keys
            vectors[hits] = records["vector"][places[hits]]
            found |= hits
        return found, vectors

    def put(self, texts: Sequence[str], vectors: Float) -> None:
        """Keep vectors of shape (n, dimensions) under their texts."""
        if len(texts) == 0:
            return
        records = np.empty(len(texts), dtype=self._record)
        records["key"], records["vector"] = _keys(texts), vectors
        old = self._files()
        if len(old) < MOST_FILES:
            self._write(records)
            return
        merged = np.concatenate([*old.values(), records])
        _, first = np.unique(merged["key"], return_index=True)
        kept = self._write(merged[first])
        for path in old.keys() - {kept}:
            path.unlink(missing_ok=True)
            del self._read[path]

    def _files(self) -> dict[Path, npt.NDArray[np.void]]:
        """Give the records of every file, each read and checked once: a text in a thousand calls costs one reading."""
        for path in sorted(self.folder.glob("*.npy")):
            if path in self._read:
                continue
            with contextlib.suppress(OSError, ValueError):  # merged away by another process, or damaged: not there
                if _digest(path) == path.stem:
                    records = np.load(path, allow_pickle=False)
                    if records.dtype == self._record and len(records):
                        self._read[path] = records[np.argsort(records["key"])]
        return dict(self._read)

    def _write(self, records: npt.NDArray[np.void]) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.folder, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                np.save(file, records, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            path = self.folder / f"{_digest(Path(name))}.npy"
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return path


def _keys(texts: Sequence[str]) -> npt.NDArray[np.bytes_]:
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32].encode() for text in texts]
    return np.array(digests, dtype="S32")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
