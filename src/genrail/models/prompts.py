"""Prompts: from a query, a history or both to the token ids that a language model continues with a title."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genrail.errors import QueryError, SettingsError
from genrail.models.plain_text import plain_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Example", "PromptTemplate", "Prompts", "frame"]

Data = str | Sequence[int]
"""What a user gave: text, or tokens of the model."""

_SLOT = re.compile(r"slot([0-9a-f]{16})x(\d+)end")


@dataclass(frozen=True)
class Example:
    """Show the model one answered request (few-shot).

    Args:
        title: The answer, as it stands in the catalogue.
        query: The words asked, or None.
        history: Titles, oldest first.
    """

    title: str
    query: str | None = None
    history: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "history", tuple(self.history))  # JSON has lists


@dataclass(frozen=True)
class PromptTemplate:
    """Hold the words around a request. ``{query}`` and ``{history}`` are replaced by what the user gave, as data.

    The history is a numbered list of titles, oldest first, as in CALRec (Li et al. 2024, CALRec: Contrastive Alignment
    of Generative LLMs for Sequential Recommendation).

    Args:
        system: Stands first: a system message for chat models, else a paragraph.
        search: A request of words.
        recommendation: A request of a history.
        both: A request of words and a history.
        empty: A request that says nothing; its answer probabilities calibrate the others.
        answer: Announces the answer, where there is no chat template. It ends in a line break, so that the title's
            first token needs no leading space.
        line: One title of the history; ``{number}`` may be left out. Where it begins with what `answer` puts before the
            next title, a training on histories reads each title once: every target stands in the next event's past.
        naming: Stands behind a request whose answer is a title where items are otherwise answered by codes.
    """

    system: str = "You work in a shop. Answer with the title of one product of the shop, and with nothing else."
    search: str = "A shopper searches for: {query}\nWhich product fits best?"
    recommendation: str = "A shopper bought, oldest first:\n{history}\nWhich product comes next?"
    both: str = (
        "A shopper bought, oldest first:\n{history}\nNow the shopper searches for: {query}\nWhich product fits best?"
    )
    empty: str = "Which product?"
    answer: str = "Product:\n"
    line: str = "{number}. {title}"
    naming: str = "What is it called?"

    def __post_init__(self) -> None:
        needs = {"search": ("{query}",), "recommendation": ("{history}",), "both": ("{query}", "{history}")}
        for name, slots in needs.items():
            for slot in slots:
                if getattr(self, name).count(slot) != 1:
                    raise SettingsError(f"the template {name!r} must hold {slot} once: {getattr(self, name)!r}")
        if "{title}" not in self.line:
            raise SettingsError(f"the template 'line' must hold {{title}}: {self.line!r}")


class Prompts:
    """Render requests for one tokenizer.

    Words of users and titles of the catalogue are encoded apart from the template, by `plain_tokens`: they cannot make
    control tokens, whatever they contain. A tokenizer with a chat template gets its own chat format.

    Args:
        tokenizer: The model's own tokenizer object.
        template: The words around the request.
        examples: Answered requests shown before each request.
        max_history: Titles of a longer history are left out from its old end.
        chat: Use the tokenizer's chat template; default: when it has one.
        seq2seq: The model is an encoder-decoder: what the tokenizer sets behind a text (the end token) stays.
        chat_settings: Handed to the chat template. Models that think aloud must not.
        facts: What is known of the catalogue; stands behind the system text, as data.

    Raises:
        SettingsError: chat=True without a chat template, or max_history below 1.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: PromptTemplate | None = None,
        examples: Sequence[Example] = (),
        max_history: int = 20,
        chat: bool | None = None,
        seq2seq: bool = False,
        chat_settings: dict[str, object] | None = None,
        facts: str = "",
    ) -> None:
        if max_history < 1:
            raise SettingsError(f"max_history is {max_history}; give 1 or more")
        has_template = getattr(tokenizer, "chat_template", None) is not None
        if chat and not has_template:
            raise SettingsError("chat=True, but this tokenizer has no chat template; leave chat out")
        self.tokenizer = tokenizer
        self.template = template or PromptTemplate()
        self.max_history = max_history
        self._facts = facts.strip()
        self.chat = has_template if chat is None else chat
        self._chat_settings = {"enable_thinking": False} if chat_settings is None else chat_settings
        before, behind = frame(tokenizer)
        self._before = before
        self._behind = behind if seq2seq and not self.chat else []
        self._examples = [(self._request(one.query, one.history), one.title) for one in examples]

    def render(self, query_text: Data | None, history_titles: Sequence[Data] = (), naming: bool = False) -> list[int]:
        """Turn one request into token ids.

        Args:
            query_text: The words, or None.
            history_titles: Titles of the past, oldest first. Words and titles may be given as tokens of the model, such
                as those of codes, which no text can make.
            naming: Ask for a title, see `PromptTemplate.naming`.

        Raises:
            QueryError: Neither words nor a history; `empty` is for that.
        """
        if not _stripped(query_text) and not history_titles:
            raise QueryError("the request is empty: give words, or titles of a history, or both")
        asked, data = self._request(query_text, history_titles)
        return self._render((f"{asked}\n{self.template.naming}" if naming else asked, data))

    def empty(self) -> list[int]:
        """Render a request that says nothing, for calibrated scores (Zhao et al. 2021, Calibrate Before Use)."""
        return self._render((self.template.empty, {}))

    def shared_prefix(self) -> list[int]:
        """Give the tokens with which every prompt of this object begins; a model may keep its cache of them."""
        prompts = [self.empty(), self.render("a", []), self.render(None, ["a"]), self.render("b", ["b", "c"])]
        length = 0
        while all(len(one) > length and one[length] == prompts[0][length] for one in prompts):
            length += 1
        return prompts[0][:length]

    def _request(self, query: Data | None, history: Sequence[Data]) -> tuple[str, dict[str, list[Data]]]:
        """Choose the template, and keep what the user gave apart from it."""
        words = _stripped(query)
        titles = list(history)[-self.max_history :]
        template = self.template
        chosen = template.both if words and titles else template.search if words else template.recommendation
        return chosen, {"{query}": [words], "{history}": titles}

    def _render(self, request: tuple[str, dict[str, list[Data]]]) -> list[int]:
        slots = _Slots(self.template.line)
        turns = [(slots.fill(*shown), slots.mark(title)) for shown, title in self._examples]
        asked = slots.fill(*request)
        text = self._chat_text(slots, turns, asked) if self.chat else self._plain_layout(slots, turns, asked)
        ids = self._encode(text, slots)
        begun = self.chat and ids[: len(self._before)] == self._before  # most chat templates write the first token
        return [*([] if begun else self._before), *ids, *self._behind]

    def _system(self, slots: _Slots) -> str:
        facts = slots.mark(self._facts) if self._facts else ""
        return "\n".join(part for part in (self.template.system, facts) if part)

    def _chat_text(self, slots: _Slots, turns: list[tuple[str, str]], asked: str) -> str:
        system = self._system(slots)
        messages = [{"role": "system", "content": system}] if system else []
        for shown, title in turns:
            messages += [{"role": "user", "content": shown}, {"role": "assistant", "content": title}]
        messages.append({"role": "user", "content": asked})
        text = self._apply(messages)
        if system and system not in text:  # some templates know no system role
            messages[1]["content"] = f"{system}\n\n{messages[1]['content']}"
            text = self._apply(messages[1:])
        return text

    def _apply(self, messages: list[dict[str, str]]) -> str:
        try:
            text = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, **self._chat_settings
            )
        except Exception as error:
            if messages[0]["role"] != "system":
                raise SettingsError(f"the tokenizer's chat template refuses these messages: {error}") from error
            return ""  # "system role not supported": the caller moves it into the first message
        return str(text)

    def _plain_layout(self, slots: _Slots, turns: list[tuple[str, str]], asked: str) -> str:
        answer = self.template.answer
        shown = "".join(f"{request}\n{answer}{title}\n\n" for request, title in turns)
        system = self._system(slots)
        before = f"{system}\n\n" if system else ""
        return f"{before}{shown}{asked}\n{answer}"

    def _encode(self, text: str, slots: _Slots) -> list[int]:
        """Encode the template's parts with control tokens and the user's parts without."""
        ids: list[int] = []
        end = 0
        for match in slots.find(text):
            before = text[end : match.start()]
            own = before.rstrip(" ")  # the space before a word belongs to its token
            ids += self._encode_template(own)
            ids += self._encode_data(before[len(own) :], slots.values[int(match[2])])
            end = match.end()
        return ids + self._encode_template(text[end:])

    def _encode_data(self, before: str, data: Data) -> list[int]:
        if isinstance(data, str):
            return plain_tokens(self.tokenizer, [before + data])[0]
        return [*(plain_tokens(self.tokenizer, [before])[0] if before else []), *data]

    def _encode_template(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


class _Slots:
    """Stand for the user's texts while a template is filled, by words that no text contains by chance."""

    def __init__(self, line: str) -> None:
        self.values: list[Data] = []
        self._line = line
        self._key = secrets.token_hex(8)  # never shown, never in the result: a user cannot write it beforehand

    def mark(self, text: Data) -> str:
        self.values.append(text)
        return f"slot{self._key}x{len(self.values) - 1}end"

    def fill(self, template: str, data: dict[str, list[Data]]) -> str:
        if "{query}" in template:
            template = template.replace("{query}", self.mark(data["{query}"][0]))
        if "{history}" in template:
            lines = [
                self._line.replace("{number}", str(number)).replace("{title}", self.mark(title))
                for number, title in enumerate(data["{history}"], start=1)
            ]
            template = template.replace("{history}", "\n".join(lines))
        return template

    def find(self, text: str) -> list[re.Match[str]]:
        return [match for match in _SLOT.finditer(text) if match[1] == self._key]


def _stripped(words: Data | None) -> Data:
    return words.strip() if isinstance(words, str) else words or ""


def frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Find what the tokenizer sets before and behind a text by itself."""
    bare = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    framed = list(tokenizer("a", add_special_tokens=True)["input_ids"])
    for start in range(len(framed) - len(bare) + 1):
        if framed[start : start + len(bare)] == bare:
            return framed[:start], framed[start + len(bare) :]
    return [], []
