"""Rank items by what a language model finds probable: the request given the item, the item given the request, or yes.

A scorer is a plain object: ``score(request_text, history_titles, item_texts)`` gives one number for each item, higher
is better, and knows of no catalogue. The weights may be those that write titles on the rails: one model for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from genrail.errors import MissingPackageError, QueryError, SettingsError
from genrail.models.plain_text import plain_tokens
from genrail.models.prompts import Prompts, frame

if TYPE_CHECKING:
    from genrail.models.causal import CausalModel
    from genrail.models.item_states import ItemStates

__all__ = ["CrossEncoderScorer", "QueryLikelihood", "Relevance", "TextScorer", "TitleLikelihood"]

Float = npt.NDArray[np.float64]

ITEM, QUERY = "{item}", "{query}"


class TextScorer(Protocol):
    """Score texts of items for a request."""

    name: str

    def score(self, request_text: str | None, history_titles: Sequence[str], item_texts: Sequence[str]) -> Float:
        """Give one number for each item, higher is better, float64, (items,)."""
        ...


class _Pairs:
    """Read pairs of item and query: the item first, so that its part is the same for every query, and kept."""

    def __init__(self, model: CausalModel, template: str, states: ItemStates | None) -> None:
        if template.count(ITEM) != 1 or template.count(QUERY) != 1 or template.index(ITEM) > template.index(QUERY):
            raise SettingsError(f"the template must hold {ITEM} and then {QUERY}, once each: {template!r}")
        if not template.split(ITEM)[1].split(QUERY)[0].strip():
            raise SettingsError(f"the template needs a word between {ITEM} and {QUERY}: {template!r}")
        if not model.reads_runs:
            raise SettingsError(f"{model.name} cannot share attention, which this ranker needs; take another model")
        if states is None:
            from genrail.models.item_states import ItemStates

            states = ItemStates()
        self.model, self.states = model, states
        before, rest = template.split(ITEM)
        self._between, self._behind = rest.split(QUERY)
        self._before = before

    def read(self, query: str, items: Sequence[str], whole: bool) -> tuple[Any, list[int]]:
        """Read every item with the template's words behind it, and then the query: alone that part is new each time.

        Args:
            query: The words.
            items: Texts.
            whole: Read the query's last token and what the template has behind it too.

        Returns:
            Hidden states, (items, tokens, width), the first one before the query's first token; the query's tokens.
        """
        head = [*frame(self.model.tokenizer)[0], *self._own(self._before.rstrip(" "))]
        gap = self._before[len(self._before.rstrip(" ")) :]
        texts = plain_tokens(self.model.tokenizer, [gap + item for item in items])
        between = self._own(self._between.rstrip(" "))
        space = self._between[len(self._between.rstrip(" ")) :]
        words = plain_tokens(self.model.tokenizer, [space + query])[0]
        beginnings = [[*head, *text, *between] for text in texts]
        rest = [between[-1], *words, *self._own(self._behind)] if whole else [between[-1], *words[:-1]]
        return self.states.behind(self.model, [one[:-1] for one in beginnings], rest), words

    def _own(self, text: str) -> list[int]:
        """Encode a part of the template."""
        return list(self.model.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


class QueryLikelihood:
    """Score an item by how probable the request's words are behind the item's text, in the mean of their tokens.

    Args:
        model: A causal model; untrained it is a fair ranker where it is a poor writer.
        template: Holds ``{item}`` and, behind it, ``{query}``.
        states: Keeps what the model made of the items; shared by scorers, see `ItemStates`. Default: in memory.

    Raises:
        SettingsError: The template lacks a slot, or the model cannot share attention.

    Source: Ponte and Croft 1998 for the idea; Sachan et al. 2022 (UPR) with a language model.
    """

    name = "query likelihood"

    def __init__(
        self,
        model: CausalModel,
        template: str = "Product: {item}\nA shopper looking for this product searched for: {query}",
        states: ItemStates | None = None,
    ) -> None:
        self._pairs = _Pairs(model, template, states)

    def score(self, request_text: str | None, history_titles: Sequence[str], item_texts: Sequence[str]) -> Float:
        """Score items; the history is not read.

        Raises:
            QueryError: No words.

        Cost: one pass over each item's tokens the first time, over the query's tokens behind it each time, with the
        output layer for these.
        """
        query = _words(request_text, self.name)
        if not len(item_texts):
            return np.zeros(0)
        hidden, words = self._pairs.read(query, item_texts, whole=False)
        return self._pairs.model.mean_log_probabilities(hidden, words)


class Relevance:
    """Score an item by log p(yes) against no, asked whether it fits the request.

    Args:
        model: A causal model that follows instructions; base models answer by chance.
        template: Holds ``{item}`` and, behind it, ``{query}``; ends where the answer begins.
        answers: What stands for yes and for no; each is one token of the model.
        states: As in `QueryLikelihood`.

    Raises:
        SettingsError: The template lacks a slot, or an answer does not begin with a token of its own.

    Source: Nogueira et al. 2020 (monoT5); the shape of Qwen3-Reranker (Zhang et al. 2025).
    """

    name = "relevance"

    def __init__(
        self,
        model: CausalModel,
        template: str = (
            "Product: {item}\nA shopper searched for: {query}\n"
            "Is this product what the shopper wants? Yes or no?\nAnswer:"
        ),
        answers: tuple[str, str] = (" Yes", " No"),
        states: ItemStates | None = None,
    ) -> None:
        self._pairs = _Pairs(model, template, states)
        tokens = [plain_tokens(model.tokenizer, [text])[0][:1] for text in answers]
        if tokens[0] == tokens[1] or not all(tokens):
            raise SettingsError(f"the answers {answers} begin with the same token; give two that differ at once")
        self._answers = np.array([tokens[0][0], tokens[1][0]])

    def score(self, request_text: str | None, history_titles: Sequence[str], item_texts: Sequence[str]) -> Float:
        """Score items; the history is not read.

        Raises:
            QueryError: No words.
        """
        query = _words(request_text, self.name)
        if not len(item_texts):
            return np.zeros(0)
        hidden, _ = self._pairs.read(query, item_texts, whole=True)
        rows = np.repeat(np.arange(len(item_texts)), 2)
        tokens = np.tile(self._answers, len(item_texts))
        logits = self._pairs.model.logits_of(hidden[:, -1], rows, tokens).astype(np.float64).reshape(-1, 2)
        return np.asarray(-np.logaddexp(0.0, logits[:, 1] - logits[:, 0]))


class TitleLikelihood:
    """Score an item by how much the request raises the probability of its text; words, history, or both.

    Args:
        model: A causal model.
        prompts: How requests are written; default: the templates of `Prompts`, without a chat format.
        weight: How much of log p(text | empty request) is taken off; 0 leaves log p(text | request).

    Source: Holtzman et al. 2021 (domain conditional PMI); with a history, CALRec (Li et al. 2024) untrained.
    """

    name = "title likelihood"

    def __init__(self, model: CausalModel, prompts: Prompts | None = None, weight: float = 1.0) -> None:
        if not 0 <= weight <= 1:
            raise SettingsError(f"weight is {weight}; give 0 to 1")
        if not model.reads_runs:
            raise SettingsError(f"{model.name} cannot share attention, which this ranker needs; take another model")
        self._model, self._weight = model, weight
        self._prompts = prompts or Prompts(model.tokenizer, chat=False)
        self._anyway: dict[tuple[int, ...], float] = {}

    def score(self, request_text: str | None, history_titles: Sequence[str], item_texts: Sequence[str]) -> Float:
        """Score items.

        Raises:
            QueryError: Neither words nor a history.

        Cost: one pass over the request, and over all tokens of the items with the whole output layer behind each; the
        empty request's part is kept for items that come again.
        """
        texts = [tuple(tokens) for tokens in plain_tokens(self._model.tokenizer, list(item_texts))]
        texts = [tokens or tuple(self._model.end_tokens[:1]) for tokens in texts]
        found = self._likelihood(self._prompts.render(request_text, history_titles), texts)
        if not self._weight:
            return found
        fresh = list(dict.fromkeys(tokens for tokens in texts if tokens not in self._anyway))
        if fresh:
            self._anyway.update(zip(fresh, self._likelihood(self._prompts.empty(), fresh).tolist(), strict=True))
        return found - self._weight * np.array([self._anyway[tokens] for tokens in texts])

    def _likelihood(self, prompt: list[int], texts: Sequence[tuple[int, ...]]) -> Float:
        """Sum the log-probabilities of each text's tokens behind a prompt."""
        state, hidden = self._model.open_runs([prompt])
        scores = np.zeros(len(texts))
        firsts = np.array([tokens[0] for tokens in texts], dtype=np.int64)
        if len(texts):
            scores += self._model.output.log_probabilities(hidden.expand(len(texts), -1), _tensor(firsts, hidden))
        longer = np.array([place for place, tokens in enumerate(texts) if len(tokens) > 1], dtype=np.int64)
        if len(longer):
            rest = [np.array(texts[place][1:], dtype=np.int64) for place in longer]
            _, _, parts = self._model.step_tails(state, np.zeros(len(longer), dtype=np.int64), firsts[longer], rest)
            scores[longer] += [float(part.sum()) for part in parts]
        return scores


class CrossEncoderScorer:
    """Score pairs of request and item by a cross-encoder of sentence-transformers.

    Args:
        model: Name or folder, or a loaded `sentence_transformers.CrossEncoder`.

    Raises:
        MissingPackageError: sentence-transformers is not installed.
    """

    name = "cross-encoder"

    def __init__(self, model: Any) -> None:
        if not hasattr(model, "predict"):
            try:
                from sentence_transformers import CrossEncoder
            except ImportError as error:
                raise MissingPackageError("sentence-transformers", "torch", "A cross-encoder") from error
            try:
                model = CrossEncoder(str(model))
            except (OSError, ValueError, KeyError) as error:
                reason = str(error).strip().split("\n")[0]
                raise SettingsError(f"cannot load a cross-encoder from {str(model)!r}: {reason}") from error
        self._model = model

    def score(self, request_text: str | None, history_titles: Sequence[str], item_texts: Sequence[str]) -> Float:
        """Score items for the words; without words, for the history's titles, oldest first.

        Raises:
            QueryError: Neither words nor a history.
        """
        asked = (request_text or "").strip() or "; ".join(history_titles)
        if not asked:
            raise QueryError("the request is empty: give words, or titles of a history, or both")
        if not len(item_texts):
            return np.zeros(0)
        found = self._model.predict([(asked, text) for text in item_texts], show_progress_bar=False)
        return np.asarray(found, dtype=np.float64).reshape(-1)


def _words(text: str | None, name: str) -> str:
    words = (text or "").strip()
    if not words:
        raise QueryError(f"{name} reads words, and the request has none; rank histories by title likelihood")
    return words


def _tensor(values: npt.NDArray[np.int64], like: Any) -> Any:
    import torch

    return torch.from_numpy(values).to(like.device)
