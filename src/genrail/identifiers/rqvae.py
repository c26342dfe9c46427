"""RQ-VAE: an autoencoder whose latent vector is quantized level by level (the tokenizer of TIGER)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Self

import numpy as np
import numpy.typing as npt

from genrail.errors import MissingPackageError, SettingsError
from genrail.identifiers.codebooks import Codebooks, vectors_to_fit
from genrail.identifiers.kmeans import nearest
from genrail.identifiers.quantizer import Codes, Float, check_codes, check_settings, checked_vectors

__all__ = ["RQVAE"]


class RQVAE(Codebooks):
    """Learn codes by an autoencoder: vectors → latent vectors → residual codes → vectors.

    The codebooks start from k-means on the latent vectors of the untrained encoder, level by level; after every epoch,
    codes that no vector chose are put on residuals of random vectors. Both keep the codebooks from collapsing.
    Training needs torch; assigning and decoding are plain NumPy in float64, so that an assignment does not depend on
    the batch.

    Args:
        levels: Codes per vector.
        codes: Size of each level's codebook.
        seed: Draws weights, batches and revived codes.
        latent: Width of the latent vectors.
        hidden: Widths between the vectors and the latent vectors; the decoder has them in reverse.
        epochs: Passes over the vectors. The paper takes 20,000; on 12,101 MiniLM vectors, 60 leave one of 768 codes
            unused and 1,071 items colliding (residual k-means: none and 2,464).
        batch: Vectors per step.
        learning_rate: Of AdamW, without weight decay on the codebooks.
        weight_decay: Of the encoder and decoder.
        commitment: Weight of the term that draws the encoder to the codes (0.25 in the paper).
        device: Of torch, for training.

    Raises:
        MissingPackageError: torch is not installed (when fitting).
        SettingsError: A setting out of range.

    Cost: fit O(n * epochs * weights): 12,101 x 384 take 0.75 s an epoch on one core.
    Source: Rajput et al. 2023, Recommender Systems with Generative Retrieval (TIGER), section 3.1; Lee et al. 2022
        (RQ-VAE); standardised input and AdamW as in Yang et al. 2024 (LIGER).
    """

    on_disk = "genrail.rqvae"
    described = "an RQ-VAE"
    settings = (
        *("levels", "codes", "seed", "latent", "hidden", "epochs", "batch"),
        *("learning_rate", "weight_decay", "commitment", "device"),
    )

    def __init__(
        self,
        levels: int = 3,
        codes: int = 256,
        seed: int = 0,
        *,
        latent: int = 32,
        hidden: Sequence[int] = (512, 256, 128),
        epochs: int = 100,
        batch: int = 1024,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        commitment: float = 0.25,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        check_settings(levels=(levels, 1), codes=(codes, 1), seed=(seed, 0), latent=(latent, 1))
        check_settings(epochs=(epochs, 1), batch=(batch, 1), **{f"hidden[{n}]": (h, 1) for n, h in enumerate(hidden)})
        for name, value in {
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "commitment": commitment,
        }.items():
            if not 0 <= value < float("inf") or (name == "learning_rate" and value == 0):
                raise SettingsError(f"{name} is {value!r}; give a number above 0")
        self.levels, self.codes, self.seed = levels, codes, seed
        self.latent, self.hidden = latent, tuple(int(width) for width in hidden)
        self.epochs, self.batch = epochs, batch
        self.learning_rate, self.weight_decay, self.commitment = learning_rate, weight_decay, commitment
        self.device = device

    @property
    def codebooks(self) -> Float:
        """Give the codes in latent space, float32, shape (levels, codes, latent); read-only."""
        return self._fitted()["codebooks"]

    def fit(self, vectors: npt.ArrayLike, progress: Callable[[int, int], None] | None = None) -> Self:
        """Learn encoder, codebooks and decoder from vectors of shape (n, dimensions) and return the quantizer itself.

        Args:
            vectors: Shape (n, dimensions).
            progress: Called with (epochs done, all epochs).

        Raises:
            IdentifierError: No vectors at all, or a vector with NaN or infinity.
            MissingPackageError: torch is not installed.
            ShapeError: Not two-dimensional.
        """
        checked = vectors_to_fit(vectors)
        if find_spec("torch") is None:
            raise MissingPackageError("torch", "torch", "fitting an RQ-VAE")
        mean, spread = checked.mean(axis=0), checked.std(axis=0)
        spread = np.where(spread > 1e-6, spread, 1).astype(np.float32)
        from genrail.identifiers.rqvae_training import train

        arrays = train(self, (checked - mean) / spread, progress)
        self._set({**arrays, "mean": mean, "spread": spread})
        return self

    def assign(self, vectors: npt.ArrayLike) -> Codes:
        """Find the codes of vectors, int64, shape (n, levels), by the frozen encoder and codebooks.

        Raises:
            IdentifierError: Not fitted yet, or a vector with NaN or infinity.
            ShapeError: Vectors of another width than those of `fit`.
        """
        arrays = self._fitted()
        checked = checked_vectors(vectors, self.dimensions)
        residual = self._through("encoder", (checked.astype(np.float64) - arrays["mean"]) / arrays["spread"])
        codes = np.empty((len(checked), self.levels), dtype=np.int64)
        for level, codebook in enumerate(arrays["codebooks"]):
            codes[:, level] = nearest(residual.astype(np.float32), codebook)
            residual = residual - codebook[codes[:, level]]
        return codes

    def decode(self, codes: npt.ArrayLike) -> Float:
        """Reconstruct vectors from codes of shape (n, 1..levels); float32, shape (n, dimensions).

        Raises:
            IdentifierError: Not fitted yet, or a code outside the codebook.
            ShapeError: Not two-dimensional, or more columns than levels.
        """
        arrays = self._fitted()
        checked = check_codes(codes, self.levels, self.codes)
        latent = np.zeros((len(checked), self.latent))
        for level, column in enumerate(checked.T):
            latent += arrays["codebooks"][level][column]
        decoded = self._through("decoder", latent)
        return (decoded * arrays["spread"] + arrays["mean"]).astype(np.float32)

    def widths(self, dimensions: int) -> list[int]:
        """List the widths of the encoder's layers, input and latent included."""
        return [dimensions, *self.hidden, self.latent]

    def _through(self, part: str, vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Run encoder or decoder in float64: linear layers with ReLU between them."""
        arrays, layers = self._fitted(), len(self.hidden) + 1
        for layer in range(layers):
            vectors = vectors @ arrays[f"{part}.{layer}.weight"].T.astype(np.float64) + arrays[f"{part}.{layer}.bias"]
            if layer + 1 < layers:
                vectors = np.maximum(vectors, 0)
        return vectors

    def _expected(self) -> dict[str, tuple[int, ...]]:
        widths = self.widths(self.dimensions)
        expected: dict[str, tuple[int, ...]] = {"codebooks": (self.levels, self.codes, self.latent)}
        for part, order in (("encoder", widths), ("decoder", widths[::-1])):
            for layer, (narrow, wide) in enumerate(zip(order[:-1], order[1:], strict=True)):
                expected[f"{part}.{layer}.weight"] = (wide, narrow)
                expected[f"{part}.{layer}.bias"] = (wide,)
        return expected
