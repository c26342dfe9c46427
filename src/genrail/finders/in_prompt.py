"""The whole catalogue in the prompt: the idea that writing on rails replaces, kept to be compared with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from genrail.errors import SettingsError
from genrail.finders.scoring import Scoring
from genrail.finding import Change, Data, Finder, FindOptions, Found, Json, Progress, Recipe, Request, RowScores
from genrail.finding.ranks import top_rows
from genrail.models.at_hand import Precision
from genrail.models.encoders import require_torch
from genrail.models.prompts import Prompts, PromptTemplate
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.models.causal import CausalModel
    from genrail.models.text_encoder import Encoder

__all__ = ["InPrompt", "InPromptRecipe"]

TEMPLATE = PromptTemplate(
    system="You work in a shop. Answer with titles of the shop's products, one a line, the best first. They are:"
)
ROOM = 256  # tokens left for a request


class InPrompt(Scoring):
    """Show a language model all titles and let it write freely; what it writes is looked up.

    Lines that are no title are counted as invented and said in a warning; items that the model did not name follow in
    seeded order. For small catalogues only, and there to show what rails are worth: cost and inventions.

    Args:
        catalog: The items.
        model: A causal model whose context holds all titles; it keeps what it read of them.
        recipe: How it is asked.

    Raises:
        SettingsError: The titles do not fit the model's context.
    """

    def __init__(self, catalog: Catalog, model: CausalModel, recipe: InPromptRecipe, seed: int = 0) -> None:
        self.catalog, self.model, self.seed = catalog, model, seed
        self.recipe: Recipe = recipe
        self.name = f"catalogue in the prompt ({model.name})"
        self._settings = recipe
        rows = np.flatnonzero(catalog.live).tolist()
        self._prompts = Prompts(model.tokenizer, TEMPLATE, facts="\n".join(catalog.titles[row] for row in rows))
        self._rows: dict[str, list[int]] = {}
        for row in rows:
            self._rows.setdefault(_plain(catalog.titles[row]), []).append(row)
        self.tokens = len(self._prompts.empty())
        limit = model.context_size
        if limit is not None and self.tokens + ROOM + recipe.max_tokens > limit:
            raise SettingsError(
                f"the titles of {len(rows)} items take {self.tokens} tokens, request and answer up to "
                f"{ROOM + recipe.max_tokens}, and {model.name} reads {limit}; this method is for small catalogues, the "
                "kind titles for all"
            )
        model.remember_prefix(self._prompts.shared_prefix())

    def find_scored(
        self, requests: Sequence[Request], k: int, options: FindOptions
    ) -> list[tuple[Found, RowScores | None]]:
        """Let the model write for each request; see `Finder.find_scored`."""
        answers: list[tuple[Found, RowScores | None]] = []
        for request in requests:
            options.step()
            lines = self._written(request, min(k, self._settings.lines))
            scores = np.zeros(len(self.catalog))
            for place, line in enumerate(lines):
                for row in self._meant(line):
                    scores[row] = max(scores[row], 1.0 / (1.0 + place))
            rows = top_rows(scores, request.allowed, k, self.precedence)
            told = tuple({"written": list(lines)} for _ in rows) if options.explain else None
            answers.append((Found(rows, scores[rows], None, told, None, self._inventions(lines)), scores))
        return answers

    def _inventions(self, lines: Sequence[str]) -> tuple[str, ...]:
        invented = sum(not self._meant(line) for line in lines)
        return (f"{invented} of {len(lines)} titles that the model wrote are no item",) if invented else ()

    def _meant(self, line: str) -> Sequence[int]:
        """Find the rows of a line's title, whatever its case, and whatever number or dash models set before it."""
        plain = _plain(line)
        return self._rows.get(plain) or self._rows.get(plain.partition(" ")[2]) or ()

    def _written(self, request: Request, count: int) -> list[str]:
        """Write greedily until enough lines are there, the model ends, or its tokens are used up."""
        titles = self.catalog.titles
        context = self._prompts.render(request.text, [titles[row] for row in request.history.tolist()])
        ends, tokens = set(self.model.end_tokens), list[int]()
        state, logits = self.model.prefill([context])
        for _ in range(self._settings.max_tokens):
            token = int(np.nan_to_num(logits[0], nan=-np.inf).argmax())
            if token in ends:
                break
            tokens.append(token)
            if self._text(tokens).count("\n") >= count:
                break
            state, logits = self.model.step(state, np.zeros(1, dtype=np.int64), np.array([token]))
        return [line.strip() for line in self._text(tokens).splitlines() if line.strip()][:count]

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self.model.tokenizer.decode(tokens, skip_special_tokens=True)).lstrip()

    def grow(self, catalog: Catalog, change: Change) -> InPrompt:
        """Write the new titles into the prompt.

        Raises:
            SettingsError: They no longer fit.
        """
        return InPrompt(catalog, self.model, self._settings, self.seed)

    def save(self, folder: Path) -> dict[str, Json]:
        """Name the model; its weights are not copied.

        Raises:
            SettingsError: A loaded model was given, which has no name to load it by.
        """
        if not isinstance(self._settings.model, str | Path):
            raise SettingsError(f"{self.name} holds a loaded model; give its name or folder to save it")
        return {"settings": self._settings.to_dict(), "seed": self.seed}

    @classmethod
    def load(cls, folder: Path, details: JsonObject, catalog: Catalog, encoder: Encoder | None = None) -> Self:
        """Load the model by its name, and write the prompt."""
        recipe = InPromptRecipe.from_dict(details["settings"])
        return cls(catalog, recipe.language_model(), recipe, int(details["seed"]))

    def describe(self) -> dict[str, Json]:
        """Tell how much of the model's context the titles take."""
        return {"titles in the prompt": int(self.catalog.live.sum()), "tokens": self.tokens, "model": self.model.name}


def _plain(title: str) -> str:
    return " ".join(title.casefold().split())


@dataclass(frozen=True)
class InPromptRecipe(Recipe):
    """Write all titles into the prompt of a language model.

    Args:
        model: Name or folder of a causal checkpoint, or a loaded one.
        lines: Titles that the model may write for an answer.
        max_tokens: Of an answer.
        dtype: Precision of the weights, of a model given by name or folder.
    """

    kind: ClassVar[str] = "in-prompt"
    finder: ClassVar[type[Finder]] = InPrompt
    takes_language_model: ClassVar[bool] = True

    model: Any = None
    lines: int = 5  # small models repeat themselves afterwards
    max_tokens: int = 160  # five titles of 30 tokens
    dtype: Precision = "float32"

    def __post_init__(self) -> None:
        if self.lines < 1 or self.max_tokens < 1:
            raise SettingsError(f"lines is {self.lines} and max_tokens {self.max_tokens}; give 1 or more")

    def build(self, data: Data, progress: Progress) -> InPrompt:
        """Load the model and let it read the titles."""
        require_torch()
        progress("titles in the prompt", 0, len(data.catalog))
        made = InPrompt(data.catalog, self.language_model(progress), self, data.seed)
        progress("titles in the prompt", len(data.catalog), len(data.catalog))
        return made

    def language_model(self, progress: Progress | None = None) -> CausalModel:
        """Load the model, unless a loaded one was given."""
        from genrail.models.causal import CausalModel
        from genrail.models.checkpoints import load_checkpoint

        found = self.model
        if isinstance(found, str | Path):
            found = load_checkpoint(found, dtype=self.dtype, progress=progress, packed=True)
        if not isinstance(found, CausalModel):
            raise SettingsError(f"{self.kind} takes a causal language model; give model, a name or a folder")
        return found

    def to_dict(self) -> dict[str, Json]:
        """Turn the settings into plain values; a loaded model has no name to save."""
        named = str(self.model) if isinstance(self.model, str | Path) else None
        return {"model": named, "lines": self.lines, "max_tokens": self.max_tokens, "dtype": self.dtype}
