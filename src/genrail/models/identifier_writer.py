"""Let a language model write free-text identifiers of an item, shown a few examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genrail.errors import SettingsError
from genrail.models.free_writing import drawn_lines
from genrail.models.language_model import AnyModel
from genrail.models.prompts import Example, Prompts, PromptTemplate
from genrail.rng import generator

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["WRITING", "WriterSettings", "write_identifiers"]

WRITING = PromptTemplate(
    system="You name products. Answer with the few words by which a shopper would look for one, and nothing else.",
    search="A product: {query}\nHow would a shopper call it?",
    answer="Words:\n",
)

EXAMPLES = (
    Example("waterproof trail shoe for women", "Salomon XA Pro 3D V9 GTX W, black"),
    Example("gentle shampoo for dry hair", "Herbal Repair Argan Oil Moisturising Shampoo 13.5 oz"),
    Example("small lamp for a child's room", "Lumio Moon LED Night Light with Dimmer, USB"),
)


@dataclass(frozen=True)
class WriterSettings:
    """Say how identifiers are written.

    Args:
        count: How many for each item, besides its title; 10 in the source.
        max_tokens: Longest identifier, its end not counted; 15 in the source.
        temperature: Of the draw; different identifiers come from different draws.
        tries: Draws for each identifier wanted; empty and repeated ones are dropped.
        seed: The same seed and text give the same identifiers.

    Source: Few-Shot GR (Askari et al. 2024, Generative Retrieval with Few-shot Indexing).
    """

    count: int = 10
    max_tokens: int = 15
    temperature: float = 1.0
    tries: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("count", "max_tokens", "tries"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; give 1 or more")
        if not 0 < self.temperature < np.inf:
            raise SettingsError(f"temperature is {self.temperature}; give a number above 0")


def write_identifiers(
    model: AnyModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    settings: WriterSettings | None = None,
    examples: Sequence[Example] = EXAMPLES,
    seq2seq: bool = False,
) -> list[str]:
    """Write identifiers of one item.

    The model is shown examples (``query``: a product's text, ``title``: what somebody would call it) and then the text;
    the answers are drawn freely, without a constraint, and end at a line break or the end token. Control tokens are
    never drawn.

    Args:
        model: A `LanguageModel` that reads prompts of token ids.
        tokenizer: Its own.
        text: What is known of the item.
        settings: Default `WriterSettings()`.
        examples: What the model is shown.
        seq2seq: The model is an encoder-decoder.

    Returns:
        At most `settings.count` different texts, none of them empty; fewer where the model repeats itself.

    Cost: one reading of the prompt, and one model call for each token.
    """
    settings = settings or WriterSettings()
    shown = [Example(one.title, one.query) for one in examples]
    prompts = Prompts(tokenizer, WRITING, shown, seq2seq=seq2seq)
    rows, random = settings.count * settings.tries, generator(settings.seed, "write identifiers", text)
    prompt = [prompts.render(text)]
    texts = drawn_lines(
        model, tokenizer, prompt, rows, settings.max_tokens, [random], temperature=settings.temperature
    )[0]
    return list(dict.fromkeys(one for one in texts if one))[: settings.count]
