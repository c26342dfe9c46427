"""The native model: reads a query, a history or both, and writes Semantic IDs, on a CPU in milliseconds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from genrail.errors import DamagedError, FormatError, QueryError, ShapeError, StateError
from genrail.models.native_network import QUERY, ChildLogits, NativeNetwork, Nodes, PastKeys
from genrail.models.native_nodes import NodeTable
from genrail.models.native_settings import NativeSettings
from genrail.rng import generator
from genrail.types import Json, JsonObject

__all__ = ["NativeContext", "NativeModel", "NativeState"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]

_FORMAT = 1
_SETTINGS_FILE = "native.json"
_TENSORS_FILE = "native.safetensors"
_TABLE = "table."  # prefix of the node table's arrays among the tensors


@dataclass(frozen=True, eq=False)
class NativeContext:
    """Hold what one request is about; made by `NativeModel.context`.

    Args:
        query: Vector of the words, (dimensions,), or None.
        history: Catalogue rows, oldest first, the latest `settings.history` of them.
    """

    query: Float | None
    history: tuple[int, ...]

    @property
    def tokens(self) -> list[int]:
        """List what the encoder reads: rows, and `QUERY` at the end if there are words."""
        return [*self.history] + ([QUERY] if self.query is not None else [])


@dataclass(frozen=True, eq=False)
class NativeState:
    """Remember, for each row, what was read and written. A value: `step` makes a new one and leaves this one usable.

    Args:
        nodes: Node of each row, -1 behind a token that no identifier has there, (rows,).
        context: Which context each row belongs to, (rows,).
        place: Row of `past` of each row, (rows,); -1 where one identifier is left, or none: nothing is read there.
        past: Keys and values of the depth transformer's blocks.
        level: Tokens written.
        query_direct: See `NativeNetwork.child_logits`, (contexts, dimensions), or None.
    """

    nodes: Int
    context: Tensor
    place: Int
    past: list[PastKeys]
    level: int
    query_direct: Tensor | None


class NativeModel:
    """Write Semantic IDs for a query's vector, a history, or both (a `LanguageModel`).

    A context encoder reads the request once. A small depth transformer (Lee et al. 2022, RQ-Transformer) then writes
    code after code. A code's logit is the product of its state with the *representation of the node* that the code
    leads to: code vector + projected mean text of the items below + free vector. Codes that lead nowhere have logit
    -inf, in training as well, so that a log-probability is that of the model itself and no capacity goes into the
    catalogue's gaps.

    Args:
        network: The weights.
        table: The tree of all identifiers; row n of the catalogue is row n here.

    >>> codes = np.array([[0, 0], [0, 1], [1, 0]])
    >>> vectors = np.eye(3, dtype=np.float32)
    >>> model = NativeModel.create(NativeSettings(width=8), codes, vectors, seed=0)
    >>> state, logits = model.prefill([model.context(history=[0])])
    >>> logits.shape
    (1, 2)
    >>> _, logits = model.step(state, np.array([0]), np.array([1]))
    >>> np.isfinite(logits).tolist()
    [[True, False]]
    """

    keeps_states = True

    def __init__(self, network: NativeNetwork, table: NodeTable) -> None:
        self.network = network
        self.table = table
        self.nodes = Nodes.of(table)
        self._representations: Tensor | None = None
        self._fingerprint: str | None = None
        self.changed()

    @classmethod
    def create(
        cls,
        settings: NativeSettings,
        codes: npt.ArrayLike,
        item_vectors: npt.ArrayLike,
        seed: int = 0,
        vocab_size: int | None = None,
    ) -> NativeModel:
        """Make an untrained model.

        With a query it already ranks by the similarity of the query's vector to the texts below each node.

        Args:
            settings: Sizes.
            codes: Identifier of each item, (n, length).
            item_vectors: Text vector of each item, (n, dimensions).
            seed: Of the first weights.
            vocab_size: Tokens of a level; default: one more than the largest in `codes`. Leave room for the
                de-duplicating codes of items added later.

        Raises:
            ShapeError: Arrays that do not fit, or no items.
            IdentifierError: A token outside 0 .. vocab_size - 1.
        """
        matrix = np.asarray(codes)
        vectors = _checked_vectors(item_vectors, len(matrix))
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise ShapeError(f"codes have shape {matrix.shape}; give (items, levels) with one item or more")
        table = NodeTable.empty(matrix.shape[1], vocab_size or int(matrix.max()) + 1).extend(matrix)
        slot_vectors = torch.from_numpy(table.slot_vectors(vectors))
        text_mean = torch.from_numpy(vectors.mean(axis=0))
        weights_seed = int(generator(seed, "native model", "weights").integers(2**62))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(weights_seed)
            network = NativeNetwork(settings, table.vocab_size, table.length, slot_vectors, text_mean)
        return cls(network, table)

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> NativeSettings:
        """Give the sizes."""
        return self.network.settings

    @property
    def vocab_size(self) -> int:
        """Count the codes of a level: the width of a row of logits."""
        return self.table.vocab_size

    @property
    def dimensions(self) -> int:
        """Give the width of text vectors."""
        return self.network.slot_vectors.shape[1]

    @property
    def items(self) -> int:
        """Count the items."""
        return self.table.rows

    @property
    def fingerprint(self) -> str:
        """Identify weights, tree and settings by their content."""
        if self._fingerprint is None:
            digest = hashlib.sha256(json.dumps(self.settings.to_dict(), sort_keys=True).encode())
            for name, tensor in sorted(self._tensors().items()):
                digest.update(name.encode())
                digest.update(tensor.numpy().tobytes())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def describe(self) -> dict[str, Json]:
        """Give name, parameters and settings, for `inspect` and reports."""
        return {
            "name": "native",
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "items": self.items,
            "nodes": len(self.table),
            "slots": self.table.slots,
            "vocab_size": self.vocab_size,
            "identifier_length": self.table.length,
            "dimensions": self.dimensions,
            "settings": self.settings.to_dict(),
        }

    def changed(self) -> None:
        """Forget what was computed from the weights; call after changing them."""
        self.network.eval()
        self._representations = None
        self._fingerprint = None

    # --- reading and writing ------------------------------------------------------------------------------------------

    def context(self, query_vector: npt.ArrayLike | None = None, history: Sequence[int] = ()) -> NativeContext:
        """Check one request and make what `prefill` reads.

        Args:
            query_vector: From the text encoder that made the item vectors, (dimensions,).
            history: Catalogue rows, oldest first; those before the latest `settings.history` are not read.

        Raises:
            QueryError: Neither words nor a history, or a row that is not there.
            ShapeError: A vector of another width.
        """
        rows = tuple(int(row) for row in history)[-self.settings.history :]
        wrong = [row for row in rows if not 0 <= row < self.items]
        if wrong:
            raise QueryError(f"row {wrong[0]} is not in the catalogue of {self.items} items; leave unknown items out")
        if query_vector is None:
            if not rows:
                raise QueryError("nothing to go by: give a query vector, or a history, or both")
            return NativeContext(None, rows)
        vector = np.asarray(query_vector, dtype=np.float32)
        if vector.shape != (self.dimensions,):
            raise ShapeError(
                f"the query's vector has shape {vector.shape}, the items' ({self.dimensions},); use one text encoder"
            )
        return NativeContext(vector, rows)

    @torch.inference_mode()
    def prefill(self, contexts: Sequence[NativeContext]) -> tuple[NativeState, Float]:
        """Read each context once.

        Returns:
            One row per context, and the logits of the first code, (contexts, vocab_size), -inf where no item is.
        """
        network, count = self.network, len(contexts)
        if count == 0:
            empty = torch.zeros(0, dtype=torch.int64)
            nothing = NativeState(empty.numpy(), empty, empty.numpy(), [], 0, None)
            return nothing, np.zeros((0, self.vocab_size), np.float32)
        tokens, ends, queries = self.batch(contexts)
        hidden = network.encode(self.nodes, self._node_representations(), tokens, queries)
        every = torch.arange(count)
        query_direct = None if queries is None else network.query_direct(queries)
        states, past = network.depth_step(hidden[every, ends], 0, None)
        state = NativeState(np.zeros(count, dtype=np.int64), every, np.arange(count), past, 0, query_direct)
        return state, self._logits(state, states, every)

    @torch.inference_mode()
    def step(self, state: NativeState, parents: Int, tokens: Int) -> tuple[NativeState, Float]:
        """Append one code to each row.

        Args:
            state: From `prefill` or `step`; stays usable.
            parents: Row of `state` that each new row continues, (rows,).
            tokens: Code that each row appends, (rows,). A code that no identifier has there gives a row of -inf.

        Returns:
            The new state and the logits of the next code, (rows, vocab_size).

        Raises:
            StateError: Identifiers are already complete, or a parent is not a row of `state`.
        """
        if state.level >= self.table.length:
            raise StateError(f"identifiers have {self.table.length} codes; there is nothing to append after the last")
        parents = np.asarray(parents, dtype=np.int64)
        if len(parents) and not 0 <= parents.min() <= parents.max() < len(state.nodes):
            raise StateError(f"a parent is outside the {len(state.nodes)} rows of this state")
        nodes = self.table.child(state.nodes[parents], np.asarray(tokens, dtype=np.int64))
        level, context = state.level + 1, state.context.index_select(0, torch.from_numpy(parents))
        place = np.full(len(nodes), -1, dtype=np.int64)
        # Where one identifier is left its codes have probability 1, and the network has nothing to say.
        open_rows = np.flatnonzero((nodes >= 0) & ~self.table.settled[nodes])
        if not len(open_rows):
            done = NativeState(nodes, context, place, [], level, state.query_direct)
            return done, self._forced_logits(nodes, level)
        place[open_rows] = np.arange(len(open_rows))
        before = torch.from_numpy(state.place[parents[open_rows]])
        past = [(keys.index_select(0, before), values.index_select(0, before)) for keys, values in state.past]
        written = self._node_representations().index_select(0, torch.from_numpy(nodes[open_rows]))
        states, past = self.network.depth_step(self.network.prefix_in(written), level, past)
        new = NativeState(nodes, context, place, past, level, state.query_direct)
        return new, self._logits(new, states, torch.from_numpy(open_rows))

    def batch(self, contexts: Sequence[NativeContext]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Lay contexts side by side: tokens (contexts, positions), last positions (contexts,), query vectors."""
        lists = [context.tokens for context in contexts]
        tokens = torch.zeros(len(lists), max(map(len, lists)), dtype=torch.int64)
        for number, row in enumerate(lists):
            tokens[number, : len(row)] = torch.tensor(row)
        ends = torch.tensor([len(row) - 1 for row in lists])
        if all(context.query is None for context in contexts):
            return tokens, ends, None
        nothing = np.zeros(self.dimensions, dtype=np.float32)
        queries = np.stack([nothing if context.query is None else context.query for context in contexts])
        return tokens, ends, torch.from_numpy(queries)

    def _forced_logits(self, nodes: Int, level: int) -> Float:
        """Give the one code that may follow logit 0 where one identifier is left, -inf to all else; (rows, V)."""
        logits = np.full((len(nodes), self.vocab_size), -np.inf, dtype=np.float32)
        if level < self.table.length:
            rows = np.flatnonzero((nodes >= 0) & self.table.settled[nodes])
            logits[rows, self.table.token[self.table.first_child[nodes[rows]]]] = 0.0
        return logits

    def _logits(self, state: NativeState, states: Tensor, open_rows: Tensor) -> Float:
        """Spread the logits of each row's children over the vocabulary, (rows, vocab_size).

        Args:
            state: The rows.
            states: What the next code of the open rows is written from, (open rows, width).
            open_rows: Which rows these are.
        """
        spread = self._forced_logits(state.nodes, state.level)
        logits = self._child_logits(state, states, open_rows)
        rows = open_rows[logits.row]
        torch.from_numpy(spread)[rows, self.nodes.token[logits.child]] = logits.values
        return spread

    def _child_logits(self, state: NativeState, states: Tensor, open_rows: Tensor) -> ChildLogits:
        """Score the children of the open rows."""
        return self.network.child_logits(
            self.nodes,
            self._node_representations(),
            states,
            torch.from_numpy(state.nodes)[open_rows],
            state.level,
            None if state.query_direct is None else state.query_direct[state.context[open_rows]],
        )

    @torch.inference_mode()
    def _node_representations(self) -> Tensor:
        """Compute every node's representation once for the present weights, (nodes, width)."""
        if self._representations is None:
            self.network.eval()
            self._representations = self.network.node_representations(self.nodes)
        return self._representations

    # --- a growing catalogue ------------------------------------------------------------------------------------------

    def add_items(
        self, codes: npt.ArrayLike, item_vectors: npt.ArrayLike, groups: npt.ArrayLike | None = None
    ) -> NativeModel:
        """Make a model that knows more items; this one stays as it is.

        Nodes that exist keep their representations. New nodes are known by their codes and texts, and have no free
        vector, so new items can be written and read at once, without training.

        Args:
            codes: Identifiers of the new rows, (n, length).
            item_vectors: Their text vectors, (n, dimensions).
            groups: Which of them come together, rising, (n,); the model is that of one call for each group.

        Raises:
            ShapeError: Arrays that do not fit.
            IdentifierError: A token outside 0 .. vocab_size - 1.
        """
        vectors = _checked_vectors(item_vectors, len(np.asarray(codes)), self.dimensions)
        table = self.table.extend(codes, groups)
        fresh = torch.from_numpy(table.slot_vectors(vectors, self.table.slots, self.table.rows, groups))
        state = dict(self.network.state_dict())
        state["slot_vectors"] = torch.cat([state["slot_vectors"], fresh])
        for name in ("free", "slot_bias"):
            zeros = torch.zeros(len(fresh), *state[name].shape[1:])
            state[name] = torch.cat([state[name], zeros])
        return type(self)(_network(self.settings, table, state), table)

    # --- saving -------------------------------------------------------------------------------------------------------

    def _tensors(self) -> dict[str, Tensor]:
        """List everything that is stored, by name."""
        tensors = {name: tensor.detach().contiguous() for name, tensor in self.network.state_dict().items()}
        for name in ("parent", "token", "slot", "levels", "leaf"):
            tensors[_TABLE + name] = torch.from_numpy(np.ascontiguousarray(getattr(self.table, name)))
        return tensors

    def save(self, folder: str | Path) -> None:
        """Write weights and tree into an existing folder: `native.safetensors` and `native.json`."""
        folder = Path(folder)
        save_file(self._tensors(), folder / _TENSORS_FILE)
        header = {
            "format": _FORMAT,
            "settings": self.settings.to_dict(),
            "vocab_size": self.vocab_size,
            "fingerprint": self.fingerprint,
        }
        (folder / _SETTINGS_FILE).write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> NativeModel:
        """Open what `save` wrote.

        Raises:
            FormatError: Not a native model, or one of a later version.
            DamagedError: A file is missing, truncated or altered.
        """
        folder = Path(folder)
        header = _read_header(folder / _SETTINGS_FILE)
        path = folder / _TENSORS_FILE
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
            arrays = {
                name: tensors.pop(_TABLE + name).numpy() for name in ("parent", "token", "slot", "levels", "leaf")
            }
            table = NodeTable(**arrays, vocab_size=int(header["vocab_size"]))
            model = cls(_network(NativeSettings.from_dict(header["settings"]), table, tensors), table)
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise DamagedError(f"{path} cannot be read ({error}); restore it from a copy, or build again") from error
        if model.fingerprint != header.get("fingerprint"):
            raise DamagedError(f"{path} does not hold what {_SETTINGS_FILE} describes; restore it, or build again")
        return model


def _network(settings: NativeSettings, table: NodeTable, state: dict[str, Tensor]) -> NativeNetwork:
    """Make a network that holds these weights."""
    with torch.random.fork_rng(devices=[]):
        network = NativeNetwork(settings, table.vocab_size, table.length, state["slot_vectors"], state["text_mean"])
    network.load_state_dict(state)
    return network


def _checked_vectors(vectors: npt.ArrayLike, count: int, dimensions: int | None = None) -> Float:
    array = np.asarray(vectors, dtype=np.float32)
    if array.ndim != 2 or len(array) != count or (dimensions is not None and array.shape[1] != dimensions):
        raise ShapeError(
            f"item vectors have shape {array.shape}; give ({count}, {dimensions or 'dimensions'}), one per identifier"
        )
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise ShapeError(f"the vector of item {row} holds NaN or infinity; encode its text again")
    return array


def _read_header(path: Path) -> JsonObject:
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DamagedError(f"{path} is missing; restore it from a copy, or build again") from error
    except ValueError as error:
        raise DamagedError(f"{path} is not JSON ({error}); restore it from a copy, or build again") from error
    if not isinstance(header, dict) or "format" not in header:
        raise FormatError(f"{path} does not describe a native model")
    if header["format"] != _FORMAT:
        raise FormatError(
            f"{path} has format {header['format']}, this version reads {_FORMAT}; upgrade genrail, or build again"
        )
    return header
