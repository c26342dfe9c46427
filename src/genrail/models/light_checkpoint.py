"""Which sentence-transformers checkpoints our own forward pass reads, and how they pool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from genrail.errors import DamagedError
from genrail.types import JsonObject

__all__ = ["light_pooling", "token_limit"]

_TOKENIZERS = (None, "BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")
# What sentence-transformers writes beside a plain network; another value asks for something we do not do.
_PLAIN = {
    "do_lower_case": (None, False),
    "transformer_task": (None, "feature-extraction"),
    "module_output_name": (None, "token_embeddings"),
    "modality_config": (None, {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}),
}
# tokenizer_config.json may overrule the normaliser of tokenizer.json.
_NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


def light_pooling(folder: Path) -> str | None:
    """Name the pooling, `mean` or `cls`, where the checkpoint is a BERT that `BertNetwork` computes; None otherwise.

    None is no error: sentence-transformers then reads the checkpoint.
    """
    modules = _page(folder / "modules.json")
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules] if isinstance(modules, list) else []
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]) or modules[0].get("path"):
        return None
    beside = _page(folder / "sentence_bert_config.json")
    plain = all(beside.get(key) in allowed for key, allowed in _PLAIN.items()) and not (
        beside.keys() - _PLAIN.keys() - {"max_seq_length"}
    )
    prompted = _page(folder / "config_sentence_transformers.json").get("default_prompt_name")
    if not plain or prompted or not _is_bert(folder) or not _tokenizer_agrees(folder):
        return None
    return _pooling(_page(folder / str(modules[1].get("path", "")) / "config.json"))


def token_limit(folder: Path) -> tuple[int, int]:
    """Give where a light checkpoint cuts texts, and the most tokens that it has positions for."""
    positions = int(_page(folder / "config.json")["max_position_embeddings"])
    limit = _page(folder / "sentence_bert_config.json").get("max_seq_length")
    limit = limit or _page(folder / "tokenizer_config.json").get("model_max_length") or positions
    return min(int(limit), positions), positions


def _is_bert(folder: Path) -> bool:
    config = _page(folder / "config.json")
    return (
        config.get("model_type") == "bert"
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") in (None, "absolute")
        and not config.get("is_decoder")
        and not config.get("quantization_config")
        and (folder / "model.safetensors").is_file()
        and (folder / "tokenizer.json").is_file()
    )


def _tokenizer_agrees(folder: Path) -> bool:
    """Tell whether tokenizer.json alone reads texts as transformers would."""
    settings = _page(folder / "tokenizer_config.json")
    if settings.get("tokenizer_class") not in _TOKENIZERS or settings.get("truncation_side", "right") != "right":
        return False
    normalizer = _page(folder / "tokenizer.json").get("normalizer") or {}
    if normalizer.get("type") != "BertNormalizer":
        return not any(key in settings for key in _NORMALIZER)
    return all(settings.get(key, normalizer.get(name)) == normalizer.get(name) for key, name in _NORMALIZER.items())


def _pooling(settings: JsonObject) -> str | None:
    if settings.get("include_prompt", True) is not True:
        return None
    mode = settings.get("pooling_mode")
    if mode is None:  # as older releases wrote it
        chosen = [key for key, on in settings.items() if key.startswith("pooling_mode_") and on]
        mode = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}.get("".join(chosen))
    if isinstance(mode, list) and len(mode) == 1:
        [mode] = mode
    return str(mode) if mode in ("mean", "cls") else None


def _page(path: Path) -> Any:
    """Read a page of settings; one that is not there says nothing."""
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedError(f"{path} is not JSON ({error}); copy the checkpoint again") from error
