"""Train an RQ-VAE with torch; the only part of it that needs torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from genrail.identifiers.kmeans import kmeans, nearest
from genrail.rng import generator

__all__ = ["Settings", "train"]

Float = npt.NDArray[np.float32]
REVIVE_UNTIL = 0.8  # share of the epochs after which no code is moved any more, so that the last revived ones settle


class Settings(Protocol):
    """Say what training reads of an `RQVAE`; the arguments are explained there."""

    levels: int
    codes: int
    seed: int
    latent: int
    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    commitment: float
    device: str

    def widths(self, dimensions: int) -> list[int]:
        """List the widths of the encoder's layers, input and latent included."""
        ...


class Network:
    """Hold the weights of encoder and decoder (name → tensor) and the codebooks (levels, codes, latent)."""

    def __init__(self, settings: Settings, dimensions: int) -> None:
        random = generator(settings.seed, "rq-vae weights")
        widths = settings.widths(dimensions)
        self.layers = len(widths) - 1
        self.weights: dict[str, Tensor] = {}
        for part, order in (("encoder", widths), ("decoder", widths[::-1])):
            for layer, (narrow, wide) in enumerate(zip(order[:-1], order[1:], strict=True)):
                bound = 1 / np.sqrt(narrow)  # as torch.nn.Linear
                for name, shape in (("weight", (wide, narrow)), ("bias", (wide,))):
                    values = random.uniform(-bound, bound, shape).astype(np.float32)
                    self.weights[f"{part}.{layer}.{name}"] = torch.from_numpy(values).to(settings.device)
        self.codebooks = torch.zeros(settings.levels, settings.codes, settings.latent, device=settings.device)
        for tensor in (*self.weights.values(), self.codebooks):
            tensor.requires_grad_()

    def through(self, part: str, vectors: Tensor) -> Tensor:
        """Run encoder or decoder: linear layers with ReLU between them."""
        for layer in range(self.layers):
            weight, bias = self.weights[f"{part}.{layer}.weight"], self.weights[f"{part}.{layer}.bias"]
            vectors = functional.linear(vectors, weight, bias)
            if layer + 1 < self.layers:
                vectors = functional.relu(vectors)
        return vectors

    def quantize(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Quantize latent vectors (batch, latent) level by level.

        Returns:
            Sum of the chosen codes; loss of the codebooks; loss of commitment, both summed over levels and averaged
            over the batch; codes (batch, levels).
        """
        residual, total = latent, torch.zeros_like(latent)
        codebook_loss = commitment_loss = latent.new_zeros(())
        picked = []
        for codebook in self.codebooks:
            codes = torch.cdist(residual.detach(), codebook.detach()).argmin(dim=1)
            chosen = codebook[codes]
            codebook_loss = codebook_loss + (residual.detach() - chosen).square().sum(dim=1).mean()
            commitment_loss = commitment_loss + (residual - chosen.detach()).square().sum(dim=1).mean()
            total = total + chosen
            residual = residual - chosen.detach()
            picked.append(codes)
        return total, codebook_loss, commitment_loss, torch.stack(picked, dim=1)


def train(settings: Settings, vectors: Float, progress: Callable[[int, int], None] | None = None) -> dict[str, Float]:
    """Train on standardised vectors (n, dimensions) and give all weights and the codebooks by name."""
    network = Network(settings, vectors.shape[1])
    data = torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32)).to(settings.device)
    _start_codebooks(settings, network, data)
    optimizer = torch.optim.AdamW(
        [
            {"params": list(network.weights.values()), "weight_decay": settings.weight_decay},
            {"params": [network.codebooks], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
    )
    for epoch in range(settings.epochs):
        used = torch.zeros(settings.levels, settings.codes, device=settings.device)
        for rows in _batches(settings, epoch, len(data)):
            codes = _update(settings, network, optimizer, data[rows])
            for level in range(settings.levels):
                used[level] += torch.bincount(codes[:, level], minlength=settings.codes)
        if epoch < REVIVE_UNTIL * settings.epochs:
            _revive(settings, network, data, used == 0, epoch)
        if progress:
            progress(epoch + 1, settings.epochs)
    tensors = {**network.weights, "codebooks": network.codebooks}
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def _update(settings: Settings, network: Network, optimizer: torch.optim.Optimizer, batch: Tensor) -> Tensor:
    """Take one step and give the codes of the batch, (batch, levels)."""
    latent = network.through("encoder", batch)
    total, codebook_loss, commitment_loss, codes = network.quantize(latent)
    straight = latent + (total - latent).detach()  # the gradient passes the codes by
    reconstruction = (network.through("decoder", straight) - batch).square().sum(dim=1).mean()
    loss = reconstruction + codebook_loss + settings.commitment * commitment_loss
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()
    return codes


def _batches(settings: Settings, epoch: int, count: int) -> Iterator[Tensor]:
    order = generator(settings.seed, "rq-vae batches", epoch).permutation(count)
    for begin in range(0, count, settings.batch):
        yield torch.from_numpy(order[begin : begin + settings.batch]).to(settings.device)


@torch.no_grad()
def _start_codebooks(settings: Settings, network: Network, data: Tensor) -> None:
    """Set the codebooks by k-means on the latent vectors, level by level."""
    most = 256 * settings.codes
    rows = generator(settings.seed, "rq-vae start").permutation(len(data))[:most]
    residual: Float = network.through("encoder", data[torch.from_numpy(rows).to(data.device)]).cpu().numpy()
    for level in range(settings.levels):
        random = generator(settings.seed, "rq-vae k-means", level)
        codebook = kmeans(residual, settings.codes, random, iterations=10)
        network.codebooks[level] = torch.from_numpy(codebook).to(data.device)
        residual = residual - codebook[nearest(residual, codebook)]


@torch.no_grad()
def _revive(settings: Settings, network: Network, data: Tensor, dead: Tensor, epoch: int) -> None:
    """Put each unused code on what random vectors leave over at its level."""
    if not bool(dead.any()):
        return
    random = generator(settings.seed, "rq-vae revival", epoch)
    rows = torch.from_numpy(random.integers(len(data), size=settings.codes)).to(data.device)
    residual = network.through("encoder", data[rows])
    for codebook, unused in zip(network.codebooks, dead, strict=True):
        codes = torch.cdist(residual, codebook).argmin(dim=1)
        left = residual - codebook[codes]
        codebook[unused] = residual[unused]
        residual = left
