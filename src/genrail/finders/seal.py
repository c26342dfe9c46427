"""SEAL: a language model writes n-grams of the items' texts, and items are ranked by the n-grams that stand in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from genrail.constraints.index import Subset
from genrail.constraints.substring import SubstringIndex
from genrail.constraints.warming import warm_up_substring
from genrail.decoding.evidence import Evidence, EvidenceSettings, gather_evidence, unigram_weights, weigh_keys
from genrail.decoding.ngrams import NgramSettings, Written, write_ngrams
from genrail.errors import CatalogError, SettingsError
from genrail.finders.arrays import load_array, save_arrays
from genrail.finders.passages import Passages, Speller, in_title_case, word_ngrams
from genrail.finding import Change, Data, Finder, FindOptions, Found, Json, Progress, Recipe, Report, Request, Searching
from genrail.finding.kept import Kept
from genrail.finding.ranks import tie_order
from genrail.models.at_hand import Precision
from genrail.models.encoders import require_torch
from genrail.models.log_softmax import log_softmax
from genrail.models.prompts import Prompts, PromptTemplate
from genrail.training.fine_tuning_settings import FineTuning
from genrail.training.loop_settings import LoopSettings
from genrail.training.span_settings import SpanSettings

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.models.adapters import Adapter
    from genrail.models.text_encoder import Encoder

__all__ = ["Seal", "SealRecipe"]

Int = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]

INDEX = "ngrams"  # folder of the substring index inside a saved finder
# Free n-grams stand within a text, where words begin with a blank: the prompt ends in a word. Titles begin a line.
NGRAMS = PromptTemplate("", "{query}", "{history}", "{history}\n{query}", "", "Text:")
TITLES = PromptTemplate("", "{query}", "{history}", "{history}\n{query}", "", "Title:\n")


def _tuning() -> FineTuning:
    # A request has some nine answers, its spans and a title, so eight of them make a step.
    loop = LoopSettings(epochs=10, learning_rate=1e-3, warm_up=20, weight_decay=0.0, averaging=0.0)
    return FineTuning(batch=8, loop=loop)


class Seal(Searching, Finder):
    """Let a language model write n-grams that stand in the items' texts, and rank items by what it wrote.

    An n-gram counts more, the more probable the model finds it for the request and the rarer it is in the catalogue.
    Items in which none stands follow with score 0, in seeded order.

    Args:
        catalog: The items.
        recipe: What made this.
        model: A causal or seq2seq checkpoint.
        source: Name from which it can be loaded again, but for the adapter; None copies it into a saved folder.
        passages: Whose passages are whose.
        index: Of the passages.
        seed: Of the order between equal scores.
        adapter: What was learnt over the model called `source`, merged into `model` already.
        report: Of the last training in this process.
        anyway: Log-probability of each token as the first one without a request, by field, where it is known already.

    Source: Bevilacqua et al. 2022, Autoregressive Search Engines (arXiv 2204.10628).
    """

    def __init__(
        self,
        catalog: Catalog,
        recipe: SealRecipe,
        model: Any,
        source: str | None,
        passages: Passages,
        index: SubstringIndex,
        seed: int = 0,
        adapter: Adapter | None = None,
        report: Report | None = None,
        anyway: dict[str, Float32] | None = None,
    ) -> None:
        self.catalog = catalog
        self.recipe: SealRecipe = recipe
        self.model = model
        self.source = source
        self.passages = passages
        self.index = index
        self.seed = seed
        self.adapter = adapter
        self.name = f"n-grams by {source or model.name}"
        self._report = report
        self.speller = Speller(model.tokenizer, recipe.passage, bool(recipe.lower_case))
        self.prompts: Mapping[str, Prompts] = recipe.prompts(model)
        self._subsets: Kept[Any] = Kept(lambda subset: int(subset.nbytes))
        self._anyway = {} if anyway is None else anyway
        self._written: Kept[tuple[Written, ...]] = Kept(lambda parts: sum(part.nbytes for part in parts))

    def replaced(self, **parts: Any) -> Seal:
        """Make the same finder with other parts."""
        names = ("catalog", "recipe", "model", "source", "passages", "index", "seed", "adapter")
        known = {} if "model" in parts or "recipe" in parts else {"anyway": self._anyway}
        return Seal(**{**{name: getattr(self, name) for name in names}, "report": self._report, **known, **parts})

    # --- questions ----------------------------------------------------------------------------------------------

    def find(self, requests: Sequence[Request], k: int, options: FindOptions) -> list[Found]:
        """Write n-grams for all requests together, then gather the evidence of each; see `Finder.find`.

        What was written for a request is kept for a while: asking again, for more or for reasons, costs no model.
        """
        subsets = [self.subset_of(request) for request in requests]
        written = self.write(requests, subsets, options)
        found = []
        for request, subset, one in zip(requests, subsets, written, strict=True):
            options.step()
            found.append(self._found(request, self.evidence(one, subset), k, options))
        return found

    def write(
        self, requests: Sequence[Request], subsets: Sequence[Subset | None], options: FindOptions
    ) -> list[tuple[Written, ...]]:
        """Give the n-grams of each request by field, those of its own words among them."""
        settings = self.recipe.writing
        settings = replace(settings, width=options.width or settings.width)
        keys = [_key(request, settings) for request in requests]
        known = {key: written for key in keys if (written := self._written.find(key)) is not None}
        fresh = {key: place for place, key in enumerate(keys) if key not in known}
        places = list(fresh.values())
        asked = [requests[place] for place in places]
        parts = []
        for name, prompts in self.prompts.items() if asked else ():
            behind = () if name == "ngrams" else (self.speller.mark,)
            parts.append(
                write_ngrams(
                    self.model,
                    [self.prompt(request.text, request.history.tolist(), prompts) for request in asked],
                    self.index,
                    settings,
                    [subsets[place] for place in places],
                    behind=behind,
                    never=(self.speller.mark,),
                    given=[self._own_ngrams(request, behind) for request in asked],
                    anyway=self._first_anyway(name) if self.recipe.calibrated else None,
                    least=self.recipe.evidence.least(self.index.token_count),
                    before_step=options.step,
                )
            )
        for key, *fields in zip(fresh, *parts, strict=True):
            known[key] = self._written.keep(key, tuple(fields))
        return [known[key] for key in keys]

    def _first_anyway(self, name: str) -> Float32:
        """Give the log-probability of each token as the first one of a field without a request; read once."""
        if name not in self._anyway:
            _, logits = self.model.prefill([self.prompts[name].empty()])
            self._anyway[name] = log_softmax(logits)[0].astype(np.float32)
        return self._anyway[name]

    def prompt(self, text: str | None, history: Sequence[int], prompts: Prompts) -> list[int]:
        """Render words and rows of a past for one field, in the case of the texts: a model copies what it reads."""
        cased = str.lower if self.speller.lower else str
        return prompts.render(text and cased(text), [cased(self.catalog.titles[row]) for row in history])

    def _own_ngrams(self, request: Request, behind: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Spell the n-grams of a request's words that some live text holds: within it, or at its beginning."""
        texts = word_ngrams(request.text or "", self.recipe.query_ngrams)
        texts = texts if behind else [f" {text}" for text in texts]  # a word within a text begins with a blank
        spelled = {tuple(tokens): None for tokens in self.speller.tokens(texts) if tokens}
        return [tokens for tokens in spelled if self.index.count(self.index.find((*behind, *tokens)))]

    def evidence(self, written: Sequence[Written], subset: Subset | None) -> list[Evidence]:
        """Rank the allowed passages by what was written, best first; none in which no n-gram stands."""
        settings, first = self.recipe.evidence, written[0]
        ngrams = [ngram for part in written for ngram in part.ngrams]
        scores = np.concatenate([part.log_probabilities for part in written])
        gains = [part.gains for part in written if part.gains is not None]
        keys = weigh_keys(self.index, ngrams, scores, settings, np.concatenate(gains) if gains else None)
        unigrams = unigram_weights(self.index, first.first, settings, first.anyway)
        unigrams[self.speller.mark] = 0.0
        return gather_evidence(self.index, keys, unigrams, subset=subset, settings=settings)

    def subset_of(self, request: Request) -> Subset | None:
        """Compile what a request allows; None where that is every live item."""
        subset: Subset | None = None
        if request.condition is not None:
            subset = self._subsets.find(request.condition)
            if subset is None:
                mask = request.filtered[self.passages.owners]
                subset = self._subsets.keep(request.condition, self.index.subset(mask))
        excluded = self.passages.of(request.excluded)
        return self.index.without(excluded, subset) if len(excluded) else subset

    def _found(self, request: Request, evidence: list[Evidence], k: int, options: FindOptions) -> Found:
        """Take each item's best passage, and fill up with items without any."""
        owners = self.passages.owners[np.array([one.row for one in evidence], dtype=np.int64)]
        rows, first = np.unique(owners, return_index=True)
        scores = np.array([evidence[place].score for place in first.tolist()])
        order = np.lexsort((self._precedence[rows], -scores))[:k]
        left = request.allowed.copy()
        left[rows] = False
        others = np.flatnonzero(left)
        others = others[np.argsort(self._precedence[others], kind="stable")][: k - len(order)]
        told: list[dict[str, Json]] = []
        if options.explain:
            told = [self._told(evidence[first[place]]) for place in order.tolist()]
            told += [{"ngrams": [], "passage": None} for _ in others]
        return Found(
            np.concatenate([rows[order], others]),
            np.concatenate([scores[order], np.zeros(len(others))]),
            explanations=tuple(told) if options.explain else None,
            warnings=self._warnings(request),
        )

    @cached_property
    def _precedence(self) -> Int:
        return tie_order(len(self.catalog), self.seed)

    def _told(self, evidence: Evidence) -> dict[str, Json]:
        """Name the n-grams that stand in an item's best passage, and where."""
        row = int(self.passages.owners[evidence.row])
        title = self.catalog.titles[row]
        text, ngrams = self.speller.shown(self.index.sequence(evidence.row), evidence.matches, title)
        number = evidence.row - int(self.passages.begins[row]) + 1
        passage: dict[str, Json] = {"number": number, "of": int(self.passages.counts[row]), "text": text}
        return {"ngrams": ngrams, "passage": passage}

    def _warnings(self, request: Request) -> tuple[str, ...]:
        most, given = self.recipe.max_history, request.history.size
        return (f"the model reads the last {most} of the {given} known history items",) if given > most else ()

    # --- changes ------------------------------------------------------------------------------------------------

    def grow(self, catalog: Catalog, change: Change) -> Seal:
        """Index the passages of added items, and take those of removed ones out."""
        passages, index = self.passages, self.index
        for one in change.added:
            tokens, offsets, counts = self.speller.spell(one.items.titles, one.items.texts())
            index = index.add_flat(tokens, offsets)
            passages = passages.extended(counts)
        if len(change.gone):
            index = index.remove(passages.of(change.gone))
        return self.replaced(catalog=catalog, passages=passages, index=index)

    @property
    def pending(self) -> int:
        """Count the passages that `compact` would tidy up: those of the new segment, and removed ones of the old."""
        old = self.index.old
        return len(self.index.new.rows) + len(old.rows) - len(old.everything.documents)

    def compact(self) -> Seal:
        """Make one segment of all live passages; texts of removed items are gone then."""
        return self.replaced(index=self.index.compact())

    def retuned(self, recipe: Recipe) -> Seal | None:
        """Take another recipe, where only the weighing of n-grams differs; what was written stays known."""
        if not isinstance(recipe, SealRecipe) or replace(recipe, evidence=self.recipe.evidence) != self.recipe:
            return None
        made = self.replaced(recipe=recipe, anyway=self._anyway)
        if recipe.evidence.smoothing == self.recipe.evidence.smoothing:  # which says what is worth writing
            made._written = self._written
        return made

    # --- a saved folder -----------------------------------------------------------------------------------------

    def save(self, folder: Path) -> dict[str, Json]:
        """Write the index, whose passages are whose, and the model unless it can be loaded by name again."""
        from genrail.models.checkpoints import save_checkpoint

        (folder / INDEX).mkdir()
        self.index.save(folder / INDEX)
        save_arrays(folder, {"passages": self.passages.counts})
        return {**save_checkpoint(self.model, self.source, self.adapter, folder), "seed": self.seed}

    @classmethod
    def load(cls, folder: Path, details: Mapping[str, Any], catalog: Catalog, encoder: Encoder | None = None) -> Self:
        """Read what `save` wrote.

        Raises:
            DamagedError: A file is missing or cut, or of another catalogue.
            FingerprintError: Weights or tokenizer are not those the engine was built with.
        """
        from genrail.models.checkpoints import open_checkpoint

        counts = load_array(folder, "passages", np.int64, (len(catalog),))
        index = SubstringIndex.load(folder / INDEX)
        model, adapter = open_checkpoint(folder, details)
        recipe, source = SealRecipe.from_dict(details["recipe"]), details["checkpoint"]
        return cls(catalog, recipe, model, source, Passages(counts), index, int(details["seed"]), adapter)

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def report(self) -> Report | None:
        """See `Finder.report`."""
        return self._report

    def warm_up(self) -> None:
        """Compile the kernels of the index and of the evidence, once per machine."""
        warm_up_substring()
        index = SubstringIndex.from_sequences([[1, 2, 3]] * 3, vocab_size=8)
        gather_evidence(index, weigh_keys(index, [[1, 2]], [-0.1]), unigram_weights(index, np.zeros(8)))

    def describe(self) -> dict[str, Json]:
        """Tell the size of the index, and the model."""
        tokens = max(1, self.index.token_count)
        size = {"tokens": self.index.token_count, "passages": len(self.index)}
        told = {f"model {key}": value for key, value in self.model.describe().items()}
        return {"identifiers": "n-grams", **size, "bytes per token": round(self.index.nbytes / tokens, 1), **told}


def _key(request: Request, settings: NgramSettings) -> str:
    """Name all that decides what is written for a request."""
    parts = (request.text, request.history.tolist(), request.condition, request.excluded.tolist(), settings.width)
    return json.dumps(parts)


@dataclass(frozen=True)
class SealRecipe(Recipe):
    """Say which model writes n-grams of the items' texts, how, and how they are weighed.

    Args:
        model: Name or folder of a causal or seq2seq checkpoint, or a loaded one, which stays as it is.
        fields: What is written: free `ngrams` of any text, beginnings of `titles`, or `both`.
        passage: Tokens of a passage; a longer text is cut into passages that each begin with its title, and an item
            counts as its best one. None for whole texts.
        lower_case: Read texts and requests, and write n-grams, in lower case. What requests call "trail boot" stands in
            titles as "Trail Boot", and an n-gram would find one spelling alone. Default: where most words of the texts
            begin with a capital.
        query_ngrams: Words of the request's own n-grams, which the model scores beside its own; 0 for none.
        calibrated: Begin with what the request makes more probable, not with what the model writes anyway, and let an
            n-gram weigh no more than the request raises its first token (Zhao et al. 2021, Calibrate Before Use).
        writing: How n-grams are written.
        evidence: How they are weighed; ``scoring="best"`` ranks by the best one alone (the paper's LM+FM).
        ngrams_prompt: The words around a request before a free n-gram.
        titles_prompt: The words around a request before a title.
        chat: Use the tokenizer's chat template.
        max_history: Titles of a longer history are left out from its old end.
        dtype: Precision of the weights, of a model given by name or folder.
        device: Where it computes, such as `cpu` or `cuda`.
        spans: Which n-grams are right for a request, where the model is taught.
        tuning: How it is taught. Building teaches it where there are judged queries, or where `pseudo_queries` of it
            says how many are made up for each item; `train` always does.

    Raises:
        SettingsError: A setting outside its range.
    """

    kind: ClassVar[str] = "seal"
    finder: ClassVar[type[Finder]] = Seal
    learns: ClassVar[bool] = True
    learns_queries: ClassVar[bool] = True
    takes_language_model: ClassVar[bool] = True

    model: Any = None
    fields: Literal["ngrams", "titles", "both"] = "both"
    passage: int | None = 256
    lower_case: bool | None = None
    query_ngrams: int = 3  # SEAL
    calibrated: bool = True
    writing: NgramSettings = field(default_factory=NgramSettings)
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    ngrams_prompt: PromptTemplate = NGRAMS
    titles_prompt: PromptTemplate = TITLES
    chat: bool = False
    max_history: int = 20
    dtype: Precision = "float32"
    device: str = "cpu"
    spans: SpanSettings = field(default_factory=SpanSettings)
    tuning: FineTuning = field(default_factory=_tuning)

    def __post_init__(self) -> None:
        parts = {
            "writing": NgramSettings,
            "evidence": EvidenceSettings,
            "ngrams_prompt": PromptTemplate,
            "titles_prompt": PromptTemplate,
            "spans": SpanSettings,
        }
        for name, kind in parts.items():  # from a manifest
            if isinstance(getattr(self, name), Mapping):
                object.__setattr__(self, name, kind(**getattr(self, name)))
        if isinstance(self.tuning, Mapping):
            object.__setattr__(self, "tuning", FineTuning.from_dict(self.tuning))
        if self.fields not in ("ngrams", "titles", "both"):
            raise SettingsError(f"fields is {self.fields!r}; give 'ngrams', 'titles' or 'both'")
        if self.query_ngrams < 0:
            raise SettingsError(f"query_ngrams is {self.query_ngrams}; give 0 or more")

    def to_dict(self) -> dict[str, Json]:
        """Turn the settings into plain values; a model that has no name is saved by itself."""
        plain = asdict(replace(self, model=None, tuning=self.tuning.kept()))
        return {**plain, "model": str(self.model) if isinstance(self.model, str | Path) else None}

    def prompts(self, model: Any) -> dict[str, Prompts]:
        """Make what renders requests, by field; free n-grams first."""
        templates = {"ngrams": self.ngrams_prompt, "titles": self.titles_prompt}
        seq2seq = model.family == "seq2seq"
        return {
            name: Prompts(model.tokenizer, template, (), self.max_history, self.chat, seq2seq)
            for name, template in templates.items()
            if self.fields in (name, "both")
        }

    def build(self, data: Data, progress: Progress) -> Seal:
        """Load the model, and index every n-gram of the items' texts."""
        require_torch()
        catalog = data.catalog
        if not catalog.live.any():
            raise CatalogError("the catalogue has no items; read one with at least one row")
        model, source = self._loaded(progress)
        progress("passages", 0, len(catalog))
        texts = catalog.texts()
        lower = in_title_case(texts) if self.lower_case is None else self.lower_case
        speller = Speller(model.tokenizer, self.passage, lower)
        tokens, offsets, counts = speller.spell(catalog.titles, texts)
        progress("passages", len(catalog), len(catalog))
        warm_up_substring(progress)
        progress("substring index", 0, 1)
        index = SubstringIndex.from_flat(tokens, offsets, speller.vocab_size)
        passages = Passages(counts)
        gone = np.flatnonzero(~catalog.live)
        index = index.remove(passages.of(gone)) if len(gone) else index
        progress("substring index", 1, 1)
        made = Seal(catalog, replace(self, lower_case=lower), model, source, passages, index, data.seed)
        return self.train(made, data, progress) if data.judged or self.tuning.pseudo_queries else made

    def train(self, finder: Finder, data: Data, progress: Progress) -> Seal:
        """Teach a copy of the model which n-grams of which texts follow which requests.

        Where LoRA learnt over a model that has a name, the finder keeps the adapter apart, and is saved without the
        weights of the model.
        """
        from genrail.finders.teaching_spans import Teaching, taught

        assert isinstance(finder, Seal)
        teaching = Teaching(self.tuning, self.spans, self.writing.length, self.max_history)
        apart = self.tuning.keeps_apart(finder.source, finder.adapter)
        model, adapter, report = taught(finder, teaching, data, progress)
        source, kept = (finder.source, adapter) if apart else (None, None)
        recipe = replace(self, tuning=self.tuning.kept(), lower_case=finder.recipe.lower_case)
        return finder.replaced(model=model, source=source, adapter=kept, recipe=recipe, report=report)

    def _loaded(self, progress: Progress) -> tuple[Any, str | None]:
        """Load the model; give it, and the name from which it can be loaded again."""
        from genrail.models.checkpoints import load_checkpoint

        given = self.model
        if isinstance(given, str | Path):
            loaded = load_checkpoint(given, self.device, self.dtype, progress=progress, packed=True)
            return loaded, None if Path(given).exists() else str(given)
        if not hasattr(given, "prefill") or not hasattr(given, "tokenizer"):
            what = "nothing was given" if given is None else f"{type(given).__name__} is none"
            raise SettingsError(f"n-grams are written by a language model, and {what}; give model, a name or a folder")
        return given, None
