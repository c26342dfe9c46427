"""LoRA: a few new weights beside each matrix of a language model, kept apart from it in files that peft opens."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genrail.errors import DamagedError, FingerprintError, MissingPackageError, SettingsError
from genrail.models.causal import CausalModel
from genrail.models.packed_linear import PackedLinear, pack, unpack

__all__ = ["AdaptedLinear", "Adapter", "adapted", "attach_lora", "blocks", "merge_lora"]

PAGE, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # as peft calls them
SCALE = 2.0  # alpha / rank, as in most published recipes; the learning rate takes it up


@dataclass(frozen=True, eq=False)
class Adapter:
    """Hold what LoRA learnt over one base model.

    Args:
        page: The configuration, as `peft.LoraConfig` writes it.
        tensors: The weights, by the names that peft gives them in files.
        base: Fingerprint of the model that it was learnt over.
        apart: An engine that is opened with it shares the base's weights with others, instead of adding to a copy.
    """

    page: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    base: str
    apart: bool = False

    @property
    def fingerprint(self) -> str:
        """Identify weights and base by content."""
        digest = hashlib.sha256(self.base.encode())
        for name, tensor in sorted(self.tensors.items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write configuration and weights into a new folder, as peft does."""
        folder.mkdir()
        (folder / PAGE).write_text(json.dumps(dict(self.page), indent=2, sort_keys=True) + "\n", encoding="utf-8")
        save_file({name: tensor.contiguous().cpu() for name, tensor in self.tensors.items()}, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path, base: str) -> Adapter:
        """Read what `save` or peft wrote.

        Args:
            folder: With both files.
            base: Fingerprint of the model that it belongs to.

        Raises:
            DamagedError: A file is missing or unreadable.
        """
        try:
            page = json.loads((folder / PAGE).read_text(encoding="utf-8"))
            return cls(page, load_file(folder / WEIGHTS), base)
        except (OSError, ValueError, SafetensorError) as error:
            raise DamagedError(f"{folder} holds no adapter that can be read ({error}); restore the folder") from error

    def merged_into(self, model: Any) -> Any:
        """Add what was learnt to the weights of its base model, in place; give the model.

        Raises:
            DamagedError: The weights do not fit the model.
        """
        peft = _peft()
        known = {name: value for name, value in self.page.items() if name in peft.LoraConfig.__dataclass_fields__}
        wrapped = peft.LoraModel(model, peft.LoraConfig(**known), "default")
        own = _weights(wrapped)
        if {name: one.shape for name, one in own.items()} != {name: one.shape for name, one in self.tensors.items()}:
            raise DamagedError("the adapter's weights are not those that its configuration and its base ask for")
        with torch.no_grad():
            for name, weight in own.items():
                weight.copy_(self.tensors[name])
        return wrapped.merge_and_unload().eval()

    def beside(self, model: Any) -> Any:
        """Make a model that computes with its base's own weights and what was learnt beside them; the base stays.

        Raises:
            DamagedError: The weights do not fit the model.

        Cost: memory for what was learnt alone; two small products more for each matrix.
        """
        shared = [*model.parameters(), *model.buffers()]
        shared += [part for part in model.modules() if isinstance(part, PackedLinear)]
        made = copy.deepcopy(model, {id(one): one for one in shared})
        scale = float(self.page["lora_alpha"]) / int(self.page["r"])
        for name, down in self.tensors.items():
            path, _, kind = name.removeprefix("base_model.model.").partition(".lora_A")
            if not kind:
                continue
            up = self.tensors.get(name.replace(".lora_A", ".lora_B"))
            try:
                layer = made.get_submodule(path)
                fits = up is not None and (layer.weight.numel() == up.shape[0] * down.shape[1])
            except AttributeError:
                fits = False
            if not fits or up is None:
                raise DamagedError("the adapter's weights are not those that its configuration and its base ask for")
            parent, _, last = path.rpartition(".")
            setattr(made.get_submodule(parent), last, AdaptedLinear(layer, down, up, scale))
        return made.eval()


class AdaptedLinear(nn.Module):
    """Compute what a linear layer computes after LoRA, by the layer's own weights; for answers only.

    The layer belongs to others too, so it is none of this one's parts. A deep copy, and what is saved, is the plain
    layer with LoRA merged in.

    Args:
        layer: A linear layer, packed or not, or a `Conv1D` of transformers.
        down: (rank, inputs).
        up: (outputs, rank).
        scale: Of their product.
    """

    def __init__(self, layer: Any, down: Tensor, up: Tensor, scale: float) -> None:
        super().__init__()
        self.__dict__["layer"] = layer
        self.down = nn.Parameter(down.to(layer.weight), requires_grad=False)
        self.up = nn.Parameter(up.to(layer.weight), requires_grad=False)
        self.scale = scale

    @property
    def weight(self) -> Tensor:
        """Give the weights with LoRA merged in, a copy."""
        return cast("Tensor", self.plain().weight)

    @property
    def bias(self) -> Tensor | None:
        """Give the layer's bias."""
        return cast("Tensor | None", self.__dict__["layer"].bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Multiply; the last dimension of `hidden` is the number of inputs."""
        beside = nn.functional.linear(nn.functional.linear(hidden, self.down), self.up)
        return cast("Tensor", self.__dict__["layer"](hidden)) + self.scale * beside

    @torch.no_grad()
    def plain(self) -> nn.Module:
        """Make the layer that peft's merging makes."""
        layer: Any = copy.deepcopy(self.__dict__["layer"])
        learnt = (self.up @ self.down) * self.scale
        layer.weight += learnt.T if type(layer).__name__ == "Conv1D" else learnt
        return cast("nn.Module", layer)

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        return self.plain()

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}weight"] = self.weight
        if self.bias is not None:
            destination[f"{prefix}bias"] = self.bias


def adapted(model: Any, folder: Path, fingerprint: str, apart: bool = False) -> tuple[Adapter, CausalModel]:
    """Read an adapter, and give the model with it.

    Args:
        model: The `CausalModel` that it was learnt over.
        folder: Of the adapter.
        fingerprint: Of the adapter that is expected.
        apart: Leave the model as it is, and compute beside its weights; else these are changed.

    Raises:
        DamagedError: It cannot be read.
        FingerprintError: It is another one.
    """
    adapter = Adapter.load(folder, model.fingerprint)
    if adapter.fingerprint != fingerprint:
        raise FingerprintError(f"{folder} is not the adapter that was saved; restore the folder")
    if apart:
        beside = CausalModel(adapter.beside(model.model), model.tokenizer, model.name, model.attention)
        beside.over, beside.output, beside._parameters = model, model.output, model._parameters
        return replace(adapter, apart=True), beside
    unpack(model.body)
    merged = CausalModel(adapter.merged_into(model.model), model.tokenizer, model.name, model.attention)
    merged.output.packed = pack(merged.body)
    return adapter, merged


def attach_lora(model: Any, rank: int, first_layer: int = 0, seed: int = 0) -> Any:
    """Put LoRA weights beside every matrix of a model's blocks, in place; they alone learn.

    Args:
        model: A transformers causal language model.
        rank: Of the change to each matrix.
        first_layer: Blocks below this one get none: gradients need not go there.
        seed: Of the new weights' beginnings.

    Returns:
        The `peft.LoraModel` around it.

    Raises:
        MissingPackageError: peft is not installed.
        SettingsError: The model's blocks cannot be told.

    Source: Hu et al. 2022, LoRA: Low-Rank Adaptation of Large Language Models.
    """
    peft = _peft()
    path, layers = blocks(model)
    kinds = {
        name.rpartition(".")[2]
        for layer in layers
        for name, part in layer.named_modules()
        if isinstance(part, nn.Linear) or type(part).__name__ == "Conv1D"
    }
    chosen = None if first_layer == 0 else list(range(first_layer, len(layers)))
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=SCALE * rank,
        target_modules=sorted(kinds),
        layers_to_transform=chosen,
        layers_pattern=None if chosen is None else path.rpartition(".")[2],
        task_type="CAUSAL_LM",
        fan_in_fan_out=any(type(part).__name__ == "Conv1D" for part in layers.modules()),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return peft.LoraModel(model, config, "default")


def merge_lora(wrapped: Any, base: str, name: str, apart: bool = False) -> tuple[Any, Adapter]:
    """Take the adapter off a peft model, and give the model with it merged in.

    Args:
        wrapped: From `attach_lora`.
        base: Fingerprint of the model before.
        name: Of the base model, for those who open the adapter with other tools.
        apart: See `Adapter`.
    """
    tensors = {key: value.detach().clone() for key, value in _weights(wrapped).items()}
    page = wrapped.peft_config["default"].to_dict()
    page = {key: sorted(value) if isinstance(value, set) else value for key, value in page.items()}
    page |= {"base_model_name_or_path": name, "inference_mode": True, "peft_type": "LORA", "auto_mapping": None}
    plain: dict[str, Any] = json.loads(json.dumps(page, default=str))
    return wrapped.merge_and_unload().eval(), Adapter(plain, tensors, base, apart)


def _weights(wrapped: Any) -> dict[str, nn.Parameter]:
    """List the weights of the adapter, by the names that peft gives them in files."""
    return {
        f"base_model.model.{name.replace('.default', '')}": weight
        for name, weight in wrapped.model.named_parameters()
        if ".lora_" in name
    }


def blocks(model: Any) -> tuple[str, nn.ModuleList]:
    """Find a model's blocks: the path of their list, and the list.

    Raises:
        SettingsError: There is no list with as many parts as the configuration says.
    """
    for name, part in model.named_modules():
        if isinstance(part, nn.ModuleList) and len(part) == getattr(model.config, "num_hidden_layers", -1):
            return name, part
    raise SettingsError(f"the blocks of {type(model).__name__} cannot be told; give learns='all'")


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise MissingPackageError(
            error.name or "peft", "peft", "Teaching a language model with learns='lora'"
        ) from error
    return peft
