"""Models: text encoders, the native model, language models, prompts, tiny doubles for tests.

The names load on first use, so that settings and protocols do not pay for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genrail.models.identifier_writer import WriterSettings as WriterSettings
    from genrail.models.language_model import LanguageModel as LanguageModel
    from genrail.models.native_settings import NativeSettings as NativeSettings
    from genrail.models.prompts import Example as Example
    from genrail.models.prompts import Prompts as Prompts
    from genrail.models.prompts import PromptTemplate as PromptTemplate
    from genrail.models.text_encoder import Encoder as Encoder
    from genrail.models.text_encoder import TextEncoder as TextEncoder
    from genrail.models.tiger import TigerSettings as TigerSettings

_HOME = {
    "Encoder": "text_encoder",
    "Example": "prompts",
    "LanguageModel": "language_model",
    "NativeSettings": "native_settings",
    "PromptTemplate": "prompts",
    "Prompts": "prompts",
    "TextEncoder": "text_encoder",
    "TigerSettings": "tiger",
    "WriterSettings": "identifier_writer",
}

__all__ = [*_HOME]  # noqa: PLE0604  names of the table above


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"genrail.models.{_HOME[name]}"), name)
