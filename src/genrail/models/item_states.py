"""What a model made of the items' texts: keys and values, kept in memory and on disk within bounds."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch

from genrail.models.token_tree import TokenTree

if TYPE_CHECKING:
    from genrail.models.causal import CausalModel

__all__ = ["ItemStates"]

Pairs = list[tuple[torch.Tensor, torch.Tensor]]  # of each layer, (1, heads, tokens, size)
Kept = list[torch.Tensor]  # float16: all layers as (layers, 2, 1, heads, tokens, size), or keys and values of each

TOGETHER = 1024  # tokens of what follows the items that are read in one call


class ItemStates:
    """Keep the keys and values of beginnings that come again with every request: an item's text is read once.

    They are kept in float16, so that an item answers the same the first time, from memory and from disk: 23 kB for each
    token of SmolLM2-135M, 1 MB for a title of 34 with a template around it. What is used least goes first.

    Args:
        folder: Keep them on disk too, between processes; None for memory alone. Deleting it is always safe.
        memory_bytes: Most bytes in memory.
        disk_bytes: Most bytes on disk.
    """

    def __init__(
        self, folder: str | Path | None = None, memory_bytes: int = 256 * 2**20, disk_bytes: int = 2 * 2**30
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.memory_bytes, self.disk_bytes = memory_bytes, disk_bytes
        self.read = 0  # items that the model had to read
        self._kept: OrderedDict[tuple[str, tuple[int, ...]], Kept] = OrderedDict()
        self._held = 0
        self._lock = Lock()

    @property
    def nbytes(self) -> int:
        """Count the bytes in memory."""
        return self._held

    @torch.inference_mode()
    def behind(self, model: CausalModel, beginnings: Sequence[Sequence[int]], rest: Sequence[int]) -> torch.Tensor:
        """Read the same tokens behind each of some beginnings.

        Args:
            model: A causal model with shared attention.
            beginnings: Tokens, one list for each item.
            rest: Tokens, one or more.

        Returns:
            The hidden state behind each of the rest's tokens, (beginnings, rest, width).
        """
        model.check_lengths([len(one) + len(rest) for one in beginnings])
        order = sorted(range(len(beginnings)), key=lambda place: len(beginnings[place]))  # like lengths: little padding
        size = max(1, TOGETHER // len(rest))
        found: dict[int, torch.Tensor] = {}
        for first in range(0, len(order), size):
            places = order[first : first + size]
            states = [self._state(model, tuple(beginnings[place])) for place in places]
            tree: TokenTree = model.planted(states)
            nodes = [[-1, *range(len(rest) - 1)]] * len(places)
            hidden = tree.grow(nodes, [list(rest)] * len(places), keep=0)
            for place, part in zip(places, hidden, strict=True):
                found[place] = part
        return torch.stack([found[place] for place in range(len(beginnings))])

    def _state(self, model: CausalModel, tokens: tuple[int, ...]) -> Pairs:
        key = (model.fingerprint, tokens)
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
        if found is None:
            found = self._load(key)
            if found is None:
                self.read += 1
                found = _halved(model.keys_and_values(tokens))
                self._save(key, found)
            self._keep(key, found)
        whole = [part.to(model.device, model.model.dtype) for part in found]
        return [(layer[0], layer[1]) for part in whole for layer in (part if part.dim() == 6 else [part])]

    def _keep(self, key: tuple[str, tuple[int, ...]], kept: Kept) -> None:
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = kept
            self._held += _bytes(kept)
            while self._held > self.memory_bytes and len(self._kept) > 1:
                _, gone = self._kept.popitem(last=False)
                self._held -= _bytes(gone)

    def _path(self, key: tuple[str, tuple[int, ...]]) -> Path | None:
        if self.folder is None:
            return None
        name = hashlib.sha256(np.array(key[1], dtype="<i8").tobytes()).hexdigest()
        return self.folder / key[0][:32] / f"{name}.npy"

    def _load(self, key: tuple[str, tuple[int, ...]]) -> Kept | None:
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            table = torch.from_numpy(np.load(path, allow_pickle=False))
            os.utime(path)  # used: it goes last
        except (OSError, ValueError, EOFError):
            return None  # another process took it away, or it is damaged: it is merely read again
        return [table] if table.dim() == 6 and table.shape[4] == len(key[1]) else None

    def _save(self, key: tuple[str, tuple[int, ...]], kept: Kept) -> None:
        path = self._path(key)
        if path is None or len(kept) > 1 or kept[0].dtype != torch.float16:
            return  # layers of different width, or numbers beyond float16: memory alone
        table = kept[0].numpy()
        with contextlib.suppress(OSError):  # a full disk costs time, not the answer
            path.parent.mkdir(parents=True, exist_ok=True)
            self._make_room(path.parent, table.nbytes)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False, suffix=".part") as file:
                try:
                    np.save(file, table)
                    file.close()
                    os.replace(file.name, path)
                except OSError:
                    os.unlink(file.name)
                    raise

    def _make_room(self, folder: Path, needed: int) -> None:
        entries = [(entry.stat().st_mtime, entry.stat().st_size, entry.path) for entry in os.scandir(folder)]
        held = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if held + needed <= self.disk_bytes:
                return
            os.unlink(path)
            held -= size


def _halved(pairs: Pairs) -> Kept:
    """Bring keys and values to float16, where they fit it: one tensor where all layers have one shape."""
    layers = [torch.stack(list(pair)) for pair in pairs]
    joined = [torch.stack(layers)] if len({layer.shape for layer in layers}) == 1 else layers
    halves = [one.half().cpu() for one in joined]
    return halves if all(bool(torch.isfinite(one).all()) for one in halves) else [one.cpu() for one in joined]


def _bytes(kept: Kept) -> int:
    return sum(part.nbytes for part in kept)
