"""Load a language model from a folder or from the hub: safetensors only, never code that comes with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from genrail.errors import FingerprintError, MissingPackageError, SettingsError
from genrail.models.at_hand import BACKENDS, Backend, Precision, find_named, present_device
from genrail.models.gguf import Report, converted, converted_named, quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from genrail.models.adapters import Adapter
    from genrail.models.causal import CausalModel
    from genrail.models.model_card import ModelCard
    from genrail.models.seq2seq import Seq2SeqModel
    from genrail.models.vllm import VllmModel

__all__ = ["Precision", "load_checkpoint", "open_checkpoint", "save_checkpoint"]

COPY = "checkpoint"  # folder of the copied weights inside a saved finder
ADAPTER = "adapter"  # folder of what was learnt over a model that is loaded by name
_SHARED: WeakValueDictionary[str, Any] = WeakValueDictionary()
_SHARING = Lock()


def load_checkpoint(
    name_or_folder: str | Path,
    device: str = "cpu",
    dtype: Precision = "float32",
    local_files_only: bool = False,
    tokenizer_class: str | None = None,
    progress: Report | None = None,
    packed: bool = False,
    backend: Backend = "transformers",
    **settings: Any,
) -> CausalModel | Seq2SeqModel | VllmModel:
    """Load a language model with its own tokenizer; its configuration says of which family it is.

    Args:
        name_or_folder: A folder written by ``save_pretrained``, a ``.gguf`` file, the name of a model that is installed
            as a package (``SmolLM2-135M``; ``genrail models`` lists them), or a name on the hub such as
            ``Qwen/Qwen3-0.6B``.
        device: Such as ``cpu``, ``cuda`` or ``mps``.
        dtype: Precision of the weights. Scores are summed in float64 whatever it is.
        local_files_only: Do not ask the network, take what was downloaded before.
        tokenizer_class: Class of transformers to load the tokenizer with. By default the checkpoint's model type
            decides, and for some types (Qwen2) that replaces the saved pre-tokenizer by another one.
        progress: Called with (stage, done, total) while a GGUF file is converted, once for each file.
        packed: Lay the weights out for answers, where the processor gains by it: the same answers, a third faster with
            a few rows. Such a model is not trained; a deep copy of it is plain again. See `PackedLinear`.
        backend: What computes: ``transformers``, or ``vllm``, which chooses device and attention itself.
        settings: Handed to `CausalModel`, such as ``attention``; with vLLM to its ``LLM``, such as ``max_model_len``.

    Raises:
        DamagedError: A package's file is not the one that its name stands for.
        MissingPackageError: transformers is not installed.
        SettingsError: Nothing loadable there: no such folder or name, weights that are not safetensors, a configuration
            that needs code of its own, a device that is not here, or a model that does not write text.
    """
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingPackageError(error.name or "transformers", "torch", "A language model") from error
    if dtype not in ("float32", "bfloat16", "float16"):
        raise SettingsError(f"dtype is {dtype!r}; give 'float32', 'bfloat16' or 'float16'")
    if backend not in BACKENDS:
        raise SettingsError(f"backend is {backend!r}; give {' or '.join(map(repr, BACKENDS))}")
    name, title = _located(str(name_or_folder), dtype, progress)
    if backend == "vllm":
        from genrail.models.vllm import VllmModel, open_vllm

        return VllmModel(open_vllm(name, dtype=dtype, **settings), title)
    common = {"trust_remote_code": False, "local_files_only": local_files_only}
    try:
        config = transformers.AutoConfig.from_pretrained(name, **common)
        tokenizer = _tokenizer_loader(tokenizer_class).from_pretrained(name, **common)
        kind = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
        with quiet_transformers():
            model = kind.from_pretrained(
                name, config=config, dtype=getattr(torch, dtype), use_safetensors=True, **common
            )
        model = model.to(device)
    except (OSError, ValueError, KeyError, ImportError, AttributeError, RuntimeError, AssertionError) as error:
        reason = str(error).strip().split("\n")[0]
        raise SettingsError(
            f"cannot load a language model from {name!r}: {reason} "
            "(give a .gguf file, or a folder or hub name with a config, a tokenizer and safetensors weights)"
        ) from error
    found = wrap(model, tokenizer, title, **settings)
    if packed:
        from genrail.models.packed_linear import pack

        _ = found.fingerprint  # while the weights are plain: afterwards it would need a copy of them
        if pack(getattr(found, "body", model)) and hasattr(found, "output"):
            found.output.packed = True
    return found


def _located(name: str, dtype: Precision, progress: Report | None) -> tuple[str, str]:
    """Give the folder or hub name to load from, and what to call the model."""
    named = None if Path(name).exists() else find_named(name)
    if named is not None:
        return str(converted_named(named, progress=progress, dtype=dtype)), named.name
    if name.lower().endswith(".gguf"):
        return str(converted(name, progress=progress, dtype=dtype)), Path(name).stem
    return name, Path(name).name


def _tokenizer_loader(name: str | None) -> type[PreTrainedTokenizerBase]:
    """Find a tokenizer class by name; a saved folder may say which, but nothing else of transformers is called."""
    import transformers

    loader: type[PreTrainedTokenizerBase] = transformers.AutoTokenizer
    if name is None:
        return loader
    found = getattr(transformers, name, None)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedTokenizerBase)):
        raise SettingsError(f"tokenizer_class is {name!r}, which is no tokenizer class of transformers")
    loader = found
    return loader


def wrap(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str = "", **settings: Any
) -> CausalModel | Seq2SeqModel:
    """Put a transformers model that is already in memory behind the `LanguageModel` protocol."""
    from genrail.models.causal import CausalModel
    from genrail.models.seq2seq import Seq2SeqModel

    if model.config.is_encoder_decoder:
        return Seq2SeqModel(model, tokenizer, name, **settings)
    return CausalModel(model, tokenizer, name, **settings)


def save_checkpoint(
    model: CausalModel | Seq2SeqModel | VllmModel,
    source: str | None,
    adapter: Adapter | None,
    folder: Path,
    card: ModelCard | None = None,
) -> dict[str, Any]:
    """Name a model within a saved finder, and copy its weights and tokenizer where no name gives them again.

    Args:
        model: As it answers.
        source: Name from which it can be loaded, but for the adapter; None for a local, changed or in-memory one.
        adapter: What was learnt over the model called `source`, merged into `model` already.
        folder: Of the finder.
        card: What it was taught here, to stand beside the weights.

    Returns:
        Plain values for the manifest, for `open_checkpoint`.
    """
    if source is None:
        model.save(folder / COPY)
    if adapter is not None:
        adapter.save(folder / ADAPTER)
    if card is not None and (source is None or adapter is not None):
        card.write(folder / (COPY if adapter is None else ADAPTER), adapter is not None)
    told = model.describe()
    return {
        "checkpoint": source,
        "name": model.name,
        "model": model.fingerprint if adapter is None else adapter.base,
        "adapter": None if adapter is None else adapter.fingerprint,
        "apart": adapter is not None and adapter.apart,
        "tokenizer_class": type(model.tokenizer).__name__,
        "loaded": {name: str(told[name]) for name in ("dtype", "device", "attention", "backend") if name in told},
    }


def open_checkpoint(
    folder: Path, details: Mapping[str, Any], settings: Mapping[str, Any] | None = None
) -> tuple[CausalModel | Seq2SeqModel | VllmModel, Adapter | None]:
    """Load what `save_checkpoint` named: of the same precision, on the same device where that is here.

    A model that an adapter is kept beside is loaded once for all engines of this process that name it.

    Args:
        folder: Of the finder.
        details: What `save_checkpoint` gave.
        settings: Further ones of `load_checkpoint`.

    Returns:
        The model with its adapter, and that adapter.

    Raises:
        FingerprintError: Weights, tokenizer or adapter are not those the engine was built with.
    """
    source, adapter = details["checkpoint"], None
    how = dict(details.get("loaded", {}))  # saved by earlier versions: none, and float32 on a CPU
    if "device" in how:
        how["device"] = present_device(how["device"])
    how |= {"tokenizer_class": details["tokenizer_class"], "packed": True, **(settings or {})}
    apart = bool(details.get("apart"))
    model: Any = _shared(source, how) if apart else load_checkpoint(source or folder / COPY, **how)
    if model.fingerprint != details["model"]:
        raise FingerprintError(
            f"the language model found as {source or folder / COPY} is not the one the engine was built with "
            "(weights, configuration or tokenizer differ); build the engine again with this one"
        )
    if details.get("adapter") is not None:
        from genrail.models.adapters import adapted

        adapter, model = adapted(model, folder / ADAPTER, details["adapter"], apart)
    model.name = str(details.get("name") or model.name)
    return model, adapter


def _shared(source: str, how: Mapping[str, Any]) -> Any:
    """Load a model, or give the one that another engine of this process already shares."""
    key = repr((source, sorted(how.items())))
    with _SHARING:
        found = _SHARED.get(key)
        if found is None:
            found = _SHARED[key] = load_checkpoint(source, **how)
    return found
