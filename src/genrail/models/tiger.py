"""TIGER: a T5 from scratch that reads the Semantic IDs of a history and writes the next one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from genrail.errors import DamagedError, FormatError, IdentifierError, QueryError, SettingsError
from genrail.models.seq2seq import Seq2SeqModel
from genrail.rng import generator

__all__ = ["TigerModel", "TigerSettings"]

Int = npt.NDArray[np.int64]

_FORMAT = 1
_WEIGHTS, _HEADER = "tiger.safetensors", "tiger.json"


@dataclass(frozen=True)
class TigerSettings:
    """Say how large the T5 is; the defaults are those of Rajput et al. 2023, appendix of the paper.

    Args:
        width: Of tokens and layers (d_model).
        layers: Blocks of the encoder, and as many of the decoder.
        heads: Attention heads of each.
        head_width: Of each head; heads x head_width may differ from the width, as T5 allows.
        feed_forward: Inner width of a block.
        dropout: Within the blocks. The paper says 0.1; reproductions do better with 0.2.
        history: How many of the last items are read.

    Raises:
        SettingsError: A setting outside its range.
    """

    width: int = 128
    layers: int = 4
    heads: int = 6
    head_width: int = 64
    feed_forward: int = 1024
    dropout: float = 0.2
    history: int = 20

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "head_width", "feed_forward", "history"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; give 1 or more")
        if not 0.0 <= self.dropout < 1.0:
            raise SettingsError(f"dropout is {self.dropout}; give 0 to below 1")


class TigerModel(Seq2SeqModel):
    """Write Semantic IDs with a T5 encoder-decoder (a `LanguageModel`).

    Each level of the identifiers has tokens of its own: code c of level l is token ``l * codes + c``. A context is the
    list of tokens of the history's items, oldest first. There is no user token: reproductions found that it does not
    help (GRID, cornac).

    Source: Rajput et al. 2023, Recommender Systems with Generative Retrieval; the T5 blocks are those of transformers.

    Args:
        codes: Codes of each item, integers, shape (items, levels).
        settings: How large.
        seed: Of the initial weights.
        size: Codes that each level may have; default: the largest code plus one.

    Raises:
        IdentifierError: No item, no level, or a code outside the size.

    Cost: 4.6 M parameters with the default settings, beside 128 for each token. The encoder reads a history once; each
    level is one call on the beams.

    >>> model = TigerModel([[0, 1], [2, 0]], TigerSettings(width=8, layers=1, heads=1, head_width=8, feed_forward=16))
    >>> model.tokens.tolist(), model.context([1, 0])
    ([[0, 4], [2, 3]], [2, 3, 0, 4])
    """

    def __init__(
        self, codes: npt.ArrayLike, settings: TigerSettings | None = None, seed: int = 0, size: int | None = None
    ) -> None:
        from transformers import T5Config, T5ForConditionalGeneration

        self.settings = settings or TigerSettings()
        matrix = np.asarray(codes, dtype=np.int64)
        if matrix.ndim != 2 or not matrix.size or matrix.min() < 0:
            raise IdentifierError(f"codes have shape {matrix.shape}; give one row of codes from 0 on for each item")
        self.size = int(matrix.max()) + 1 if size is None else size
        if self.size <= int(matrix.max()):
            raise IdentifierError(
                f"a code is {matrix.max()}, but a level may have {self.size} codes; give a larger size"
            )
        self.codes = matrix
        self.tokens = self.tokens_of(matrix)
        self.pad = int(matrix.shape[1] * self.size)  # also what the decoder starts with
        config = T5Config(
            vocab_size=self.pad + 1,
            d_model=self.settings.width,
            d_kv=self.settings.head_width,
            d_ff=self.settings.feed_forward,
            num_layers=self.settings.layers,
            num_heads=self.settings.heads,
            dropout_rate=self.settings.dropout,
            feed_forward_proj="relu",
            pad_token_id=self.pad,
            decoder_start_token_id=self.pad,
            eos_token_id=None,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator(seed, "TIGER", "weights").integers(2**62)))
            network = T5ForConditionalGeneration(config)
        super().__init__(network, None, "TIGER")

    def tokens_of(self, codes: Int) -> Int:
        """Give the tokens of codes, shape (n, levels): each level has its own."""
        return codes + np.arange(codes.shape[1]) * self.size

    def context(self, history: Sequence[int]) -> list[int]:
        """Lay out the last items of a history as tokens.

        Args:
            history: Item rows, oldest first.

        Raises:
            QueryError: No item.
        """
        last = list(history)[-self.settings.history :]
        if not last:
            raise QueryError("TIGER reads histories; give at least one known item")
        laid_out: list[int] = self.tokens[last].reshape(-1).tolist()
        return laid_out

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """Give none: all identifiers have the same length."""
        return ()

    @cached_property
    def fingerprint(self) -> str:
        """Identify weights, settings and identifiers by content; of the weights as they are when first asked."""
        digest = hashlib.sha256(json.dumps(asdict(self.settings), sort_keys=True).encode())
        digest.update(self.tokens.tobytes())
        for name, weights in sorted(self.model.named_parameters()):
            digest.update(name.encode())
            digest.update(weights.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def to(self, device: str | torch.device) -> TigerModel:
        """Move the weights, and return the model."""
        self.model.to(device)
        self.device = self.model.device
        return self

    def save(self, folder: str | Path) -> None:
        """Write weights, codes and settings into an existing folder."""
        tensors = {name: weights.detach().cpu().contiguous() for name, weights in self.model.named_parameters()}
        save_file({**tensors, "codes": torch.from_numpy(self.codes)}, Path(folder) / _WEIGHTS)
        header = {
            "format": _FORMAT,
            "settings": asdict(self.settings),
            "size": self.size,
            "fingerprint": self.fingerprint,
        }
        (Path(folder) / _HEADER).write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> TigerModel:
        """Open what `save` wrote.

        Raises:
            FormatError: Of a later version.
            DamagedError: A file is missing, truncated or altered.
        """
        folder = Path(folder)
        try:
            header = json.loads((folder / _HEADER).read_text(encoding="utf-8"))
            version, settings = header["format"], header["settings"]
            size = header.get("size")  # files of earlier versions have none
            tensors = load_file(folder / _WEIGHTS)
            codes = tensors.pop("codes").numpy()
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"{folder} holds no whole TIGER model ({error}); restore it, or train again") from error
        if version != _FORMAT:
            raise FormatError(f"{folder / _HEADER} has format {version}, this version reads {_FORMAT}; update genrail")
        model = cls(codes, TigerSettings(**settings), size=size)
        found = dict(model.model.named_parameters())
        if {name: weights.shape for name, weights in found.items()} != {n: t.shape for n, t in tensors.items()}:
            raise DamagedError(f"{folder / _WEIGHTS} does not fit {_HEADER}; restore it, or train again")
        with torch.no_grad():
            for name, weights in found.items():
                weights.copy_(tensors[name])
        if model.fingerprint != header.get("fingerprint"):
            raise DamagedError(f"{folder / _WEIGHTS} was altered; restore it, or train again")
        return model
