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

TOGETHER = 1024  # tokens of what follows the items that are read in one call


class ItemStates:
    """Keep the keys and values of beginnings that come again with every request: an item's text is read once.

    A state of SmolLM2-135M has 46 kB for each token, so 1.6 MB for a title of 34. What is used least goes first.

    Args:
        folder: Keep them on disk too, as float16, between processes; None for memory alone. Deleting it is always safe.
        memory_bytes: Most bytes in memory.
        disk_bytes: Most bytes on disk.
    """

    def __init__(
        self, folder: str | Path | None = None, memory_bytes: int = 256 * 2**20, disk_bytes: int = 2 * 2**30
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.memory_bytes, self.disk_bytes = memory_bytes, disk_bytes
        self.read = 0  # items that the model had to read
        self._kept: OrderedDict[tuple[str, tuple[int, ...]], Pairs] = OrderedDict()
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
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        pairs = self._load(key, model)
        if pairs is None:
            self.read += 1
            pairs = model.keys_and_values(tokens)
            self._save(key, pairs)
        self._keep(key, pairs)
        return pairs

    def _keep(self, key: tuple[str, tuple[int, ...]], pairs: Pairs) -> None:
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = pairs
            self._held += _bytes(pairs)
            while self._held > self.memory_bytes and len(self._kept) > 1:
                _, gone = self._kept.popitem(last=False)
                self._held -= _bytes(gone)

    def _path(self, key: tuple[str, tuple[int, ...]]) -> Path | None:
        if self.folder is None:
            return None
        name = hashlib.sha256(np.array(key[1], dtype="<i8").tobytes()).hexdigest()
        return self.folder / key[0][:32] / f"{name}.npy"

    def _load(self, key: tuple[str, tuple[int, ...]], model: CausalModel) -> Pairs | None:
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            table = torch.from_numpy(np.load(path, allow_pickle=False))
            os.utime(path)  # used: it goes last
        except (OSError, ValueError, EOFError):
            return None  # another process took it away, or it is damaged: it is merely read again
        table = table.to(model.device, model.model.dtype)
        if table.dim() != 6 or table.shape[4] != len(key[1]):
            return None
        return [(layer[0], layer[1]) for layer in table]

    def _save(self, key: tuple[str, tuple[int, ...]], pairs: Pairs) -> None:
        path = self._path(key)
        if path is None:
            return
        shapes = {tuple(part.shape) for pair in pairs for part in pair}
        if len(shapes) > 1:
            return  # layers of different width: memory alone
        table = torch.stack([torch.stack(list(pair)) for pair in pairs]).half().cpu().numpy()
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


def _bytes(pairs: Pairs) -> int:
    return sum(part.nbytes for pair in pairs for part in pair)
