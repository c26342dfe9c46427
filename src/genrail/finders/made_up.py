"""The one place where queries are made up for items: cut out of their text, or written and found again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from genrail.errors import SettingsError
from genrail.finders.lessons import asked
from genrail.finders.query_file import QueryFile
from genrail.finders.written_settings import read_examples
from genrail.finding import Data, Finder, Progress
from genrail.finding.registry import recipe_named
from genrail.models.prompts import Example, Prompts, PromptTemplate
from genrail.rng import generator
from genrail.training.pseudo_queries import QueryMaking, pseudo_queries
from genrail.types import Query

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.models.causal import CausalModel

__all__ = ["MadeUp", "made_up"]

Rows = npt.NDArray[np.int64]
WRITTEN = 16  # texts that are read side by side

WRITING = PromptTemplate(
    system="You write what people type into a search box. Answer with one short query, and with nothing else.",
    search="Text: {query}\nWhich query should find this text?",
    answer="Query:\n",
)
EXAMPLES = (
    Example("waterproof trail shoes for women", "Salomon XA Pro 3D V9 GTX W. Trail running shoe, Gore-Tex, black, 8"),
    Example("does coffee raise blood pressure", "Caffeine and hypertension: a meta-analysis. We pooled 34 trials of"),
    Example("film about a lonely robot in space", "WALL-E (2008). Animation, family. A small robot collects waste"),
)


@dataclass(frozen=True, eq=False)
class MadeUp:
    """Hold made-up queries.

    Args:
        queries: The words.
        rows: Catalogue row that each was made for, (queries,).
        written: Which of them a model wrote, (queries,).
        counts: Of what a model wrote: `written`, `kept`, `repeated` (or empty), `not found`, and `cut instead`: queries
            cut out of the text of items of which nothing was kept. Empty where nothing was written.
    """

    queries: list[str]
    rows: Rows
    written: npt.NDArray[np.bool_]
    counts: dict[str, int] = field(default_factory=dict)


def made_up(
    data: Data,
    rows: Rows,
    variants: int,
    making: QueryMaking,
    progress: Progress,
    own: CausalModel | None = None,
    seed: int | None = None,
) -> MadeUp:
    """Make up queries for some live items.

    Args:
        data: The catalogue; its teacher, if there is one, says whether a written query is good.
        rows: Of the items.
        variants: Queries for each, 0 or more; of written ones fewer may be kept.
        making: How.
        progress: Called with (stage, done, total).
        own: The engine's own language model, which writes where `making` names none.
        seed: Of the draws; None for that of the data.

    Raises:
        SettingsError: Nobody is there to write, or a writer is given for queries that are cut out.

    Cost: nothing for cut ones; for written ones see `drawn_lines`, and a search for each.
    """
    seed, catalog = data.seed if seed is None else seed, data.catalog
    if making.made == "cut" and (making.query_writer is not None or making.query_file is not None):
        raise SettingsError("query_writer and query_file are for queries that a model writes; give made='written'")
    if making.made == "cut" or not variants or not len(rows):
        return _cut(catalog, rows, variants, seed)
    written, repeated = _written(catalog, rows, variants, making, progress, own, seed)
    queries = [query for one in written for query in one]
    owners = np.repeat(rows, [len(one) for one in written])
    kept = _found_again(data, queries, owners, making, progress)
    bare = rows[~np.isin(rows, owners[kept])]
    cut = _cut(catalog, bare, variants, seed)
    counts = {"written": len(queries) + repeated, "kept": int(kept.sum()), "repeated": repeated}
    counts |= {"not found": int((~kept).sum()), "cut instead": len(cut.queries)}
    together = [*(query for query, keep in zip(queries, kept.tolist(), strict=True) if keep), *cut.queries]
    own_rows = np.concatenate([owners[kept], cut.rows])
    return MadeUp(together, own_rows, np.arange(len(together)) < int(kept.sum()), counts)


def _cut(catalog: Catalog, rows: Rows, variants: int, seed: int) -> MadeUp:
    """Cut queries out of the text of some items; the same as for all items."""
    if not variants or not len(rows):
        return MadeUp([], np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_))
    chosen = np.zeros(len(catalog), dtype=np.bool_)
    chosen[rows] = True
    wanted = chosen.tolist()

    def only(column: Sequence[str]) -> list[str]:
        return [text if keep else "" for text, keep in zip(column, wanted, strict=True)]

    queries, owners = pseudo_queries(only(catalog.titles), only(catalog.texts()), variants, seed)
    return MadeUp(queries, owners, np.zeros(len(queries), dtype=np.bool_))


def _written(
    catalog: Catalog,
    rows: Rows,
    count: int,
    making: QueryMaking,
    progress: Progress,
    own: CausalModel | None,
    seed: int,
) -> tuple[list[list[str]], int]:
    """Read the queries of each item from the file, or write them; give them, and how many were empty or repeated."""
    texts = catalog.texts()
    short = {row: " ".join(texts[row].split()[: making.text_words]) for row in rows.tolist()}
    writer = _Writer(making, own, progress, seed)
    from genrail.training.processes import Processes

    kept = QueryFile(making.query_file, writer.identity)
    ids = catalog.item_ids
    left = [row for row in rows.tolist() if short[row] and kept.of(ids[row], short[row], count) is None]
    if left and Processes.here().count > 1:
        raise SettingsError(
            f"queries of {len(left):,} items are not written yet, and several processes would write each twice; let "
            "one process train with the same query_file first, for one epoch"
        )
    for first in range(0, len(left), WRITTEN):
        progress("writing queries", first, len(left))
        part = left[first : first + WRITTEN]
        lines = writer.write([short[row] for row in part], count)
        kept.add([(ids[row], short[row], one) for row, one in zip(part, lines, strict=True)], count)
    progress("writing queries", len(left), len(left))
    lists = [kept.of(ids[row], short[row], count) or [] for row in rows.tolist()]
    different = [list(dict.fromkeys(query for query in one if query)) for one in lists]
    return different, sum(map(len, lists)) - sum(map(len, different))


class _Writer:
    """Write queries about texts."""

    def __init__(self, making: QueryMaking, own: CausalModel | None, progress: Progress, seed: int) -> None:
        from genrail.models.causal import CausalModel

        model: Any = own
        if making.query_writer is not None:
            from genrail.models.checkpoints import load_checkpoint

            model = load_checkpoint(making.query_writer, progress=progress, packed=True)
        if model is None:
            raise SettingsError(
                "made is 'written', but there is no language model to write; give query_writer, a name or a folder"
            )
        if isinstance(model, CausalModel):  # many texts in one call, where an answer wants one at a time
            model = CausalModel(model.model, model.tokenizer, model.name, model.attention, WRITTEN)
        shown = making.query_examples
        examples = EXAMPLES if shown is None else read_examples(shown) if isinstance(shown, str) else shown
        self._model, self._making, self._seed = model, making, seed
        self._template = making.query_template or WRITING
        self._prompts = Prompts(model.tokenizer, self._template, examples, seq2seq=model.family == "seq2seq")
        if isinstance(model, CausalModel):
            model.remember_prefix(self._prompts.shared_prefix())
        self.identity = {
            "model": model.fingerprint,
            "seed": seed,
            "template": self._template.search + self._template.system + self._template.answer,
            "examples": [[one.title, one.query] for one in examples],
            "query_tokens": making.query_tokens,
            "query_choices": making.query_choices,
        }

    def write(self, texts: Sequence[str], count: int) -> list[list[str]]:
        """Write some queries about each text."""
        from genrail.models.free_writing import drawn_lines

        making = self._making
        randoms = [generator(self._seed, "written queries", text) for text in texts]
        prompts = [self._prompts.render(text) for text in texts]
        return drawn_lines(
            self._model,
            self._model.tokenizer,
            prompts,
            count,
            making.query_tokens,
            randoms,
            choices=making.query_choices,
        )


def _found_again(
    data: Data, queries: Sequence[str], owners: Rows, making: QueryMaking, progress: Progress
) -> npt.NDArray[np.bool_]:
    """Tell which queries find the item that they were written for, (queries,)."""
    if not making.kept_within or not queries:
        return np.ones(len(queries), dtype=np.bool_)
    finder = cast("Finder", data.teacher) if data.teacher is not None else _judge(data, making, progress)
    asks = [Query(text) for text in queries]
    told = asked(finder, data, asks, making.kept_within, progress, stage="finding the items of queries again")
    return np.array([owner in rows for owner, (rows, _) in zip(owners.tolist(), told, strict=True)], dtype=np.bool_)


def _judge(data: Data, making: QueryMaking, progress: Progress) -> Finder:
    names = making.kept_by
    recipe = recipe_named(names[0]) if len(names) == 1 else recipe_named("fused", {"lanes": names, "ranker": False})
    return recipe.build(data.of_texts, progress)
