"""A checkpoint that sentence-transformers runs: any architecture, at the price of its import."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from genrail.models.plain_text import plain_texts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["LibraryNetwork", "open_library_model", "positions_of", "quiet"]

Float = npt.NDArray[np.float32]


class LibraryNetwork:
    """Run a SentenceTransformer, with the interface of `BertNetwork`.

    Args:
        model: From `open_library_model`; its `max_seq_length` says where texts are cut.
    """

    precision = "float32"

    def __init__(self, model: SentenceTransformer) -> None:
        self.model = model
        self.tokenizer = model.tokenizer
        self.max_tokens = int(model.max_seq_length)
        self.on_cpu = model.device.type == "cpu"
        renamed = hasattr(model, "get_embedding_dimension")  # in sentence-transformers 6
        self.dimensions = int(model.get_embedding_dimension() if renamed else model.get_sentence_embedding_dimension())

    def pooled(self, texts: Sequence[str], tokens: Sequence[Sequence[int]]) -> Float:
        """Give one vector of length 1 per text, float32, shape (n, dimensions); the library tokenizes by itself."""
        vectors = self.model.encode(
            plain_texts(self.tokenizer, texts),
            batch_size=len(texts),
            show_progress_bar=False,
            convert_to_numpy=True,
            normalize_embeddings=True,
        )
        return np.asarray(vectors, dtype=np.float32)

    def token_vectors(self, texts: Sequence[str], tokens: Sequence[Sequence[int]], max_tokens: int) -> list[Float]:
        """Give the last layer of each text, float32, (its tokens, dimensions); control tokens are included."""
        import torch

        features = self.model.preprocess(plain_texts(self.tokenizer, texts))
        cut = {
            name: value[:, :max_tokens].to(self.model.device)
            for name, value in features.items()
            if isinstance(value, torch.Tensor)
        }
        with torch.no_grad():
            out = self.model[0]({**features, **cut})["token_embeddings"].cpu().numpy()
        lengths = cut["attention_mask"].sum(dim=1).tolist()
        return [row[:length].astype(np.float32) for row, length in zip(out, lengths, strict=True)]


def open_library_model(folder: Path, device: str) -> SentenceTransformer:
    """Open a checked folder as a SentenceTransformer that reads control tokens as text."""
    with quiet():
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(
            str(folder),
            device=device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True, "dtype": "float32"},
        )
    model.eval()
    model.tokenizer.split_special_tokens = True
    return model


def positions_of(model: SentenceTransformer) -> int:
    """Give the most tokens that the network has positions for."""
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return int(min(model.tokenizer.model_max_length, 10**6))
    # RoBERTa and MPNet keep the first two positions for padding.
    padded = any(family in str(getattr(config, "model_type", "")) for family in ("roberta", "mpnet"))
    return int(positions) - 2 * padded


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' own progress bars off the terminal; ours are told by `progress`."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
