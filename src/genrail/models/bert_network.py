"""The forward pass of a BERT text encoder, in float32 or with 8-bit weights, without importing transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from genrail.errors import DamagedError
from genrail.models.light_tokenizer import LightTokenizer

__all__ = ["BertNetwork", "runs_int8"]

Float = npt.NDArray[np.float32]
LAYER = "encoder.layer."


def runs_int8() -> bool:
    """Tell whether this processor multiplies 8-bit integers without overflow and faster than floats (AVX-512 VNNI)."""
    supported = getattr(torch.cpu, "_is_vnni_supported", None)
    return bool(supported is not None and supported() and hasattr(torch, "_int_mm"))


class BertNetwork:
    """Run a BERT checkpoint with mean or first-token pooling.

    Texts are not padded: their tokens lie one behind the other, and attention runs once for all texts of one length.
    So no multiplication is spent on padding, and with 8-bit weights a text's vector is the same, bit by bit, in any
    company: every operation is exact or within one token.

    Args:
        folder: Of the checkpoint, for which `light_checkpoint.is_light` holds.
        pooling: `mean` or `cls`.
        max_tokens: Texts are cut there.
        precision: `float32` or `int8`.
        device: Of torch; `int8` runs on CPUs only.

    Raises:
        DamagedError: A weight is missing or the file cannot be read.

    Cost: 0.1 s to load MiniLM, where sentence-transformers takes four seconds, nearly all of it imports.
    Source: Devlin et al. 2019 (BERT); Reimers and Gurevych 2019 (pooling).
    """

    def __init__(self, folder: Path, pooling: str, max_tokens: int, precision: str, device: str) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.tokenizer = LightTokenizer(folder)
        self.max_tokens = max_tokens
        self.precision = precision
        self.dimensions = int(config["hidden_size"])
        self.on_cpu = torch.device(device).type == "cpu"
        self._device = torch.device(device)
        self._pooling = pooling
        self._heads = int(config["num_attention_heads"])
        self._epsilon = float(config.get("layer_norm_eps", 1e-12))
        weights = _Weights(folder / "model.safetensors", self._device)
        self._words = weights["embeddings.word_embeddings.weight"]
        self._places = (
            weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self._norm = weights.pair("embeddings.LayerNorm")
        self._layers = [
            _Layer(weights, f"{LAYER}{number}.", precision) for number in range(int(config["num_hidden_layers"]))
        ]

    def pooled(self, texts: Sequence[str], tokens: Sequence[Sequence[int]]) -> Float:
        """Give one vector of length 1 per text, float32, shape (n, dimensions).

        Args:
            texts: Not read; the tokens say it all.
            tokens: Plain tokens of each text, without control tokens, longest first.
        """
        with torch.inference_mode():
            hidden, lengths = self._hidden(tokens)
            if self._pooling == "cls":
                starts = torch.tensor(lengths).cumsum(0) - torch.tensor(lengths)
                vectors = hidden[starts.to(hidden.device)]
            else:
                vectors = torch.stack([part.mean(dim=0) for part in torch.split(hidden, lengths)])
            found: Float = F.normalize(vectors, dim=1).cpu().numpy()
            return found

    def token_vectors(self, texts: Sequence[str], tokens: Sequence[Sequence[int]], max_tokens: int) -> list[Float]:
        """Give the last layer of each text, float32, (its tokens, dimensions); control tokens are included.

        A text that is longer than `max_tokens` loses its last tokens, the model's own last one included.
        """
        with torch.inference_mode():
            hidden, lengths = self._hidden(tokens, max_tokens)
            return [part.cpu().numpy() for part in torch.split(hidden, lengths)]

    def _hidden(self, tokens: Sequence[Sequence[int]], max_tokens: int | None = None) -> tuple[Tensor, list[int]]:
        """Run the network: the last layer of all tokens, (tokens, dimensions), and how many each text has."""
        rows = [self.tokenizer.framed(row, self.max_tokens)[:max_tokens] for row in tokens]
        lengths = [len(row) for row in rows]
        flat = torch.tensor([token for row in rows for token in row], device=self._device)
        places = torch.cat([torch.arange(length, device=self._device) for length in lengths])
        x = self._words[flat] + self._places[places]  # (tokens, dimensions)
        x = F.layer_norm(x, x.shape[1:], *self._norm, self._epsilon)
        runs = [(length, len(list(run))) for length, run in groupby(lengths)]
        for layer in self._layers:
            x = layer(x, runs, self._heads, self._epsilon)
        return x, lengths


class _Weights:
    """Read tensors by name as float32, with or without the prefix that other heads leave."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self._path = path
        self._device = device
        try:
            self._file = cast(Any, safe_open(str(path), framework="pt"))
            self._names = {name.removeprefix("bert."): name for name in self._file.keys()}  # noqa: SIM118
        except Exception as error:  # the library raises its own and OSError
            raise DamagedError(f"{path} cannot be read ({error}); copy the checkpoint again") from error

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise DamagedError(f"{self._path} lacks the weight {name!r}; copy the checkpoint again")
        found: Tensor = self._file.get_tensor(self._names[name]).to(self._device, torch.float32)
        return found

    def pair(self, name: str) -> tuple[Tensor, Tensor]:
        """Read weight and bias."""
        return self[f"{name}.weight"], self[f"{name}.bias"]


class _Layer:
    """One transformer layer: attention and feed-forward, each added to what came in and normalised."""

    def __init__(self, weights: _Weights, prefix: str, precision: str) -> None:
        linear = _Int8Linear if precision == "int8" else _Linear
        parts = [weights.pair(f"{prefix}attention.self.{name}") for name in ("query", "key", "value")]
        self._read = linear(torch.cat([weight for weight, _ in parts]), torch.cat([bias for _, bias in parts]))
        self._write = linear(*weights.pair(f"{prefix}attention.output.dense"))
        self._attention_norm = weights.pair(f"{prefix}attention.output.LayerNorm")
        self._up = linear(*weights.pair(f"{prefix}intermediate.dense"))
        self._down = linear(*weights.pair(f"{prefix}output.dense"))
        self._norm = weights.pair(f"{prefix}output.LayerNorm")

    def __call__(self, x: Tensor, runs: Sequence[tuple[int, int]], heads: int, epsilon: float) -> Tensor:
        """Run on tokens (tokens, width) of texts in runs of (length, how many in a row)."""
        width = x.shape[1:]
        read = self._read(x)  # (tokens, 3 * width)
        seen, begin = [], 0
        for length, count in runs:
            part = read[begin : begin + length * count].view(count, length, 3, heads, -1)
            query, key, value = part.permute(2, 0, 3, 1, 4)  # (count, heads, length, width / heads)
            seen.append(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(-1, *width))
            begin += length * count
        x = F.layer_norm(x + self._write(torch.cat(seen)), width, *self._attention_norm, epsilon)
        return F.layer_norm(x + self._down(F.gelu(self._up(x))), width, *self._norm, epsilon)


class _Linear:
    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight, self._bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self._weight, self._bias)


class _Int8Linear:
    """Multiply with 8-bit weights (one scale per output) and 8-bit inputs (range of each token, measured as it comes).

    A token's values are mapped from [lowest, highest] to [-128, 127]. Symmetric scales lose three times as much, since
    single dimensions of BERT reach far to one side; one scale for the whole batch, as torch's and ONNX Runtime's
    dynamic quantisation have, makes a text's vector depend on the texts beside it (decisions/0021).

    Source: Jacob et al. 2018, Quantization and Training of Neural Networks for Integer-Arithmetic-Only Inference.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        scale = (weight.abs().amax(dim=1) / 127).clamp_min(torch.finfo(torch.float32).tiny)  # (outputs,)
        stored = (weight / scale[:, None]).round_().to(torch.int8)
        self._weight = stored.t()  # as `_int_mm` wants it: (inputs, outputs), column by column
        self._scale = scale
        self._bias = bias
        self._sums = stored.sum(dim=1, dtype=torch.float32) * scale  # (outputs,): what a shift of the inputs adds

    def __call__(self, x: Tensor) -> Tensor:
        low, high = x.amin(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)  # (tokens, 1); aminmax is ten times slower
        step = (high - low).div_(255).clamp_min_(1e-12)
        shift = low + 128 * step
        stored = (x - shift).div_(step).round_().to(torch.int8)
        found = torch._int_mm(stored, self._weight).float().mul_(step)  # (tokens, outputs)
        return torch.addcmul(self._bias, shift, self._sums).addcmul_(found, self._scale)
