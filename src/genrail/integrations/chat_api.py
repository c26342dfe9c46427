"""A language model behind an OpenAI-compatible API: no logits, so no rails; its words are matched to the catalogue."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Unpack

from genrail.errors import ApiError, QueryError, SettingsError
from genrail.types import Hit, Query, QueryOptions, Ranking, Retriever

if TYPE_CHECKING:
    from genrail.catalog import Catalog

__all__ = ["ApiRetriever", "ApiSettings", "ChatApi"]

WARNING = "not constrained at token level: a language model behind an API named these, and its words were matched"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follow nobody elsewhere: the key would go along."""

    def redirect_request(self, *_: object) -> None:
        """Refuse."""


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())  # no proxy of the environment


@dataclass(frozen=True)
class ApiSettings:
    """Say how a language model behind an API is asked.

    Args:
        mode: `shortlist`: it picks from items that another method found, by structured output. `free`: it writes
            titles, and each is matched to the catalogue.
        shortlist: Items shown in `shortlist` mode, or k if that is more.
        answers: Titles asked for in `free` mode.
        max_history: Titles of a longer history are left out from its old end.
        temperature: 0 asks for the same answer each time.
        system: Stands first.
    """

    mode: Literal["shortlist", "free"] = "shortlist"
    shortlist: int = 50
    answers: int = 10
    max_history: int = 20
    temperature: float = 0.0
    system: str = "You work in a shop and recommend its products."

    def __post_init__(self) -> None:
        if self.mode not in ("shortlist", "free"):
            raise SettingsError(f"mode is {self.mode!r}; give 'shortlist' or 'free'")
        for name in ("shortlist", "answers", "max_history"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; give 1 or more")
        if not 0 <= self.temperature <= 2:
            raise SettingsError(f"temperature is {self.temperature}; give 0 to 2")


class ChatApi:
    """Ask ``/chat/completions`` of an OpenAI-compatible server for JSON of a given schema.

    Args:
        base_url: Such as ``http://127.0.0.1:8000/v1``.
        model: Name of the model there.
        key: Sent as bearer token; never shown.
        timeout_seconds: Of one request.

    Raises:
        SettingsError: A `base_url` that is not http or https.
    """

    def __init__(self, base_url: str, model: str, key: str | None = None, timeout_seconds: float = 60.0) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise SettingsError(f"base_url is {base_url!r}; give an address that begins with http:// or https://")
        self.base_url = base_url.rstrip("/")
        self.model = model
        self._key = key
        self._timeout = timeout_seconds

    def ask(self, messages: list[dict[str, str]], schema: Mapping[str, object], temperature: float = 0.0) -> Any:
        """Send messages; give the answer, parsed.

        Raises:
            ApiError: No answer in time, an error of the server, or an answer that is no JSON.
        """
        body = {
            "model": self.model,
            "messages": messages,
            "temperature": temperature,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": schema},
            },
        }
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        url = f"{self.base_url}/chat/completions"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        try:
            with _OPENER.open(request, timeout=self._timeout) as response:
                page = json.loads(response.read())
            return json.loads(page["choices"][0]["message"]["content"])
        except urllib.error.HTTPError as error:
            raise ApiError(f"{url} answered {error.code} {error.reason}; check the model's name and the key") from error
        except (OSError, urllib.error.URLError) as error:
            raise ApiError(f"{url} does not answer ({error}); check the address, or give it more time") from error
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ApiError(f"{url} gave no JSON in its answer; use a model with structured output") from error


class ApiRetriever:
    """Rank items with a language model that only its API can be reached of.

    Nothing keeps such a model on rails. Items still come from the catalogue alone: it either picks numbers of a
    shortlist, or writes titles that `matcher` looks up. Every ranking carries a warning that says so. What it leaves
    open is filled from the matcher's own ranking, so that k allowed items come out.

    Args:
        api: Where the model is.
        catalog: The items.
        matcher: Finds the shortlist and looks titles up, such as ``BM25(catalog)`` or ``Dense(catalog)``.
        settings: Default `ApiSettings()`.

    Cost: one request to the API for each query.

    Source: matching free text by BM25, round-robin over the generations, as in CALRec (Li et al. 2024).
    """

    def __init__(self, api: ChatApi, catalog: Catalog, matcher: Retriever, settings: ApiSettings | None = None) -> None:
        self.api = api
        self.catalog = catalog
        self.matcher = matcher
        self.settings = settings or ApiSettings()

    @property
    def name(self) -> str:
        """Name the model."""
        return f"{self.api.model} (API)"

    def search(self, text: str | None = None, k: int = 10, **query: Unpack[QueryOptions]) -> Ranking:
        """Rank the k best items; further arguments are those of `Query`."""
        return self.search_batch([Query(text, **query)], k)[0]

    def search_batch(self, queries: Sequence[Query], k: int = 10) -> list[Ranking]:
        """Rank the k best items for each query.

        Raises:
            QueryError: k below 1, or a history without a single known item and no words.
            FilterError: A filter that does not parse or names an unknown field.
            ApiError: The API did not answer as it should.
        """
        if k < 1:
            raise QueryError(f"k is {k}; ask for 1 item or more")
        fallbacks = self.matcher.search_batch(queries, max(k, self.settings.shortlist))
        return [self._answer(query, known, k) for query, known in zip(queries, fallbacks, strict=True)]

    def _answer(self, query: Query, known: Ranking, k: int) -> Ranking:
        if not len(known):
            return known
        picked = self.picked(query, known, k) if self.settings.mode == "shortlist" else self._free(query, k)
        hits = list({hit.item_id: hit for hit in (*picked, *known)}.values())[:k]
        ranked = tuple(
            replace(hit, rank=rank, score=1.0 / rank, log_probability=None) for rank, hit in enumerate(hits, start=1)
        )
        return Ranking(ranked, len(known) < k and known.exhausted, (*known.warnings, WARNING))

    def picked(self, query: Query, known: Ranking, k: int) -> list[Hit]:
        """Let the model pick the k best of some hits by their numbers; numbers that were not shown are left out.

        Raises:
            ApiError: The API did not answer as it should.
        """
        wish = f"{self._shown(query, known)}\nName the numbers of the best {min(k, len(known))}, best first."
        number = {"type": "integer", "minimum": 1, "maximum": len(known)}
        found = self._list(wish, "numbers", number)
        shown = [value for value in found if isinstance(value, int) and not isinstance(value, bool)]
        return [known[value - 1] for value in shown if 1 <= value <= len(known)]

    def grades(self, query: Query, known: Ranking) -> list[float]:
        """Let the model grade each of some hits: 3 fits exactly, 2 well, 1 somewhat, 0 not; (hits,).

        Raises:
            ApiError: The API did not answer as it should, or with another number of grades.
        """
        wish = (
            f"{self._shown(query, known)}\nGrade each in this order: 3 if it fits exactly, 2 if it fits well, 1 if it "
            "fits somewhat, 0 if not."
        )
        found = self._list(wish, "grades", {"type": "integer", "minimum": 0, "maximum": 3})
        if len(found) != len(known) or not all(isinstance(one, int) and 0 <= one <= 3 for one in found):
            raise ApiError(
                f"{self.api.model} gave other grades than the {len(known)} from 0 to 3 that were asked for; "
                "use a model with structured output, or fewer candidates"
            )
        return [float(one) for one in found]

    def _shown(self, query: Query, known: Ranking) -> str:
        """Write the request, and numbered titles below it."""
        lines = "\n".join(f"{number}. {json.dumps(hit.title)}" for number, hit in enumerate(known, start=1))
        return f"{self._wish(query)}\nProducts:\n{lines}"

    def _free(self, query: Query, k: int) -> list[Hit]:
        """Let the model write titles; take the best unused match of each in turn."""
        wish = f"{self._wish(query)}\nName {self.settings.answers} products that fit, best first, by their titles."
        titles = [one.strip() for one in self._list(wish, "titles", {"type": "string"}) if isinstance(one, str)]
        asked = [replace(query, text=title, history=(), exclude=self._hidden(query)) for title in titles if title]
        matches = [list(ranking) for ranking in self.matcher.search_batch(asked, k)] if asked else []
        taken: dict[str, Hit] = {}
        while len(taken) < k and any(matches):
            for ranking in matches:
                while ranking and ranking[0].item_id in taken:
                    ranking.pop(0)
                if ranking and len(taken) < k:
                    hit = ranking.pop(0)
                    taken[hit.item_id] = hit
        return list(taken.values())

    @staticmethod
    def _hidden(query: Query) -> tuple[str, ...]:
        return (*query.exclude, *(query.history if query.exclude_seen else ()))

    def _list(self, wish: str, name: str, item: Mapping[str, object]) -> list[Any]:
        schema = {
            "type": "object",
            "properties": {name: {"type": "array", "items": item}},
            "required": [name],
            "additionalProperties": False,
        }
        messages = [{"role": "system", "content": self.settings.system}, {"role": "user", "content": wish}]
        answer = self.api.ask(messages, schema, self.settings.temperature)
        found = answer.get(name) if isinstance(answer, dict) else None
        if not isinstance(found, list):
            raise ApiError(f"the answer of {self.api.model} has no list of {name}; use a model with structured output")
        return found

    def _wish(self, query: Query) -> str:
        """Write the request; what users and sellers wrote stands in quotes, as JSON strings."""
        parts = []
        rows = [row for row in self.catalog.rows(query.history).tolist() if row >= 0][-self.settings.max_history :]
        if rows:
            bought = "\n".join(
                f"{number}. {json.dumps(self.catalog.titles[row])}" for number, row in enumerate(rows, start=1)
            )
            parts.append(f"A shopper bought, oldest first:\n{bought}")
        if (query.text or "").strip():
            parts.append(f"The shopper searches for: {json.dumps((query.text or '').strip())}")
        return "\n".join(parts)
