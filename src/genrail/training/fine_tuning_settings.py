"""How a language model is fine-tuned; apart from the training, so that recipes are read without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from genrail.errors import SettingsError
from genrail.training.loop_settings import LoopSettings
from genrail.training.pseudo_queries import QueryMaking
from genrail.training.rewards import RolloutSettings
from genrail.types import JsonObject

__all__ = ["ORDER", "FineTuning", "Order"]

Order = Literal["pairwise", "listwise", "prefix-margin"]
ORDER: tuple[Order, ...] = ("pairwise", "listwise", "prefix-margin")
RECIPES = ("sft", "distill", "calrec", "align", "grpo")
LEAST = {
    "pseudo_queries": 0,
    "made_up": 0,
    "next_items": 0,
    "negatives": 0,
    "validation": 0,
    "longest": 2,
    "validation_beams": 1,
    "layers": 1,
    "rank": 1,
    "batch": 1,
    "pack_tokens": 1,
    "epoch": 1,
    "first_epochs": 0,
}


def _loop() -> LoopSettings:
    # LoRA takes about ten times the rate of a whole model (Hu et al. 2022).
    return LoopSettings(epochs=10, learning_rate=5e-4, warm_up=20, weight_decay=0.0, averaging=0.0)


@dataclass(frozen=True)
class FineTuning:
    """Say what a language model is taught, and how it learns to write identifiers.

    Args:
        recipe: `sft`: supervised fine-tuning on pairs of a request and its items; `distill`: a teacher ranks items for
            made-up queries and pasts, and its rankings are what is right, beside the item itself; `calrec`: `sft` with
            two contrastive terms (Li et al. 2024, CALRec); `align`: `sft` with tasks that join codes and words, for
            models that write codes (Zheng et al. 2024, LC-Rec); `grpo`: a taught model learns from what the items are
            worth that it writes (Shao et al. 2024), see `rewarding`.
        rewarding: What items are worth that the model writes, and how it learns from that, with ``recipe="grpo"``.
        pseudo_queries: Made-up queries for each item; None for 4, or none where histories alone are given.
        making: How queries are made up: cut out of the text, or written by a model and found again.
        made_up: At most so many made-up queries in all, drawn by the seed; None for all.
        next_items: At most about so many events of histories; None for all.
        longest: Tokens of a prompt and its answer together; None for what the model can read.
        too_long: What becomes of a longer prompt: `shorten` drops the oldest titles, then the last words; or
            `leave out`.
        validation: Requests that are held out; the weights with the highest nDCG@10 of constrained decoding are kept.
        validation_beams: Of that decoding, 10 or more.
        loss: `rails`: over the allowed tokens of each branching, which is what decoding on the rails reads, at a
            fraction of the output layer's cost; `cross-entropy`: each token among the whole vocabulary; `pairwise`,
            `listwise` or `prefix-margin`: `rails`, and the order of a request's items among themselves, as a teacher or
            the grades of judged queries give it, see `genrail.training.order`.
        order_share: Share of such a loss that the order makes; the rest is `rails`.
        margin: Of `pairwise`: by so many nats the better of two items is to be ahead.
        negatives: With `pairwise` and `listwise`, so many of the best items that the model itself writes for a request
            and that are not right are compared with the right ones; written anew for each `epoch` (LTRGR). A request
            with one right item has an order then too.
        smoothing: Share of the right answer that is spread over what was possible.
        learns: `lora`: a few weights beside each matrix (needs peft); `top`: the last blocks; `all`: every weight;
            `codes`: the embeddings of new code tokens alone, so that words keep their meaning.
        layers: So many of the last blocks learn; None for all of them with `lora`, a third with `top`.
        rank: Of LoRA.
        merged: With `lora`, what was learnt over a model that has a name is added to a copy of its weights whenever the
            engine is opened. False computes it beside them instead: all such engines of a process share one model.
        batch: Requests in one step.
        pack_tokens: Requests are put together into tries of about so many tokens, in which what they share is read
            once; None reads each right answer as a row of its own, padded.
        target_target: With `calrec`, the share of the loss by which a target behind its request looks like itself
            alone, among the targets of the batch.
        user_target: Likewise, the share by which a request looks like its target.
        temperature: Of both: cosines are divided by it.
        focus: Only items that this filter allows are targets after the first `first_epochs`: the second stage of
            CALRec, which learns from all categories first and then from the one that it is meant for.
        first_epochs: Epochs of the first stage.
        least: Branchings that less than this share of a request's right items lead to are not read.
        epoch: Requests between two validations, which the loop's epochs count; None for all there are.
        precision: Of the activations. `bfloat16` is faster where the processor computes in it; weights that learn stay
            float32.
        checkpointing: Compute activations twice instead of keeping them: a third slower, a fraction of the memory.
        loop: Of the training loop.
        checkpoint: A file that this training is kept in after each epoch, and resumed from if it exists.
        curve: A file (`.jsonl`) for the learning curve, a line for each epoch; a picture stands beside it (`.html`).

    Raises:
        SettingsError: A value outside its range.
    """

    recipe: Literal["sft", "distill", "calrec", "align", "grpo"] = "sft"
    rewarding: RolloutSettings = field(default_factory=RolloutSettings)
    pseudo_queries: int | None = None
    making: QueryMaking = field(default_factory=QueryMaking)
    made_up: int | None = 50_000
    next_items: int | None = 20_000
    longest: int | None = None
    too_long: Literal["shorten", "leave out"] = "shorten"
    validation: int = 64
    validation_beams: int = 10
    loss: Literal["rails", "cross-entropy", "pairwise", "listwise", "prefix-margin"] = "rails"
    order_share: float = 0.5
    margin: float = 1.0
    negatives: int = 0
    smoothing: float = 0.0
    learns: Literal["lora", "all", "top", "codes"] = "lora"
    layers: int | None = None
    rank: int = 16
    merged: bool = True
    batch: int = 24
    pack_tokens: int | None = 384
    least: float = 0.02
    target_target: float = 0.1
    user_target: float = 0.1
    temperature: float = 0.1
    focus: str | None = None
    first_epochs: int = 1
    epoch: int | None = 2000
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpointing: bool = False
    loop: LoopSettings = field(default_factory=_loop)
    checkpoint: str | None = None
    curve: str | None = None

    @property
    def asks(self) -> bool:
        """Tell whether a teacher is asked."""
        return self.recipe == "distill" or (self.recipe == "grpo" and self.rewarding.reward == "teacher")

    def __post_init__(self) -> None:
        choices = {
            "recipe": RECIPES,
            "too_long": ("shorten", "leave out"),
            "loss": ("rails", "cross-entropy", *ORDER),
            "learns": ("lora", "all", "top", "codes"),
            "precision": ("float32", "bfloat16"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise SettingsError(f"{name} is {getattr(self, name)!r}; give {' or '.join(map(repr, known))}")
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise SettingsError(f"{name} is {value}; give {least} or more")
        for name in ("smoothing", "least", "target_target", "user_target"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise SettingsError(f"{name} is {getattr(self, name)}; give 0 to below 1")
        if not 0.0 < self.order_share <= 1.0 or self.margin < 0.0:
            raise SettingsError("order_share must be above 0 and at most 1, and margin 0 or more")
        if self.negatives and self.loss not in ("pairwise", "listwise"):
            raise SettingsError(f"negatives are compared by loss='pairwise' or 'listwise'; loss is {self.loss!r}")
        if self.target_target + self.user_target >= 1.0 or not self.temperature > 0.0:
            raise SettingsError("target_target and user_target must be below 1 together, and temperature above 0")

    def keeps_apart(self, source: str | None, adapter: object | None) -> bool:
        """Tell whether what is learnt will be saved without the weights that it was learnt over.

        Args:
            source: Name of the model that is taught; None where its weights are not to be had by a name.
            adapter: What was learnt over it before, or None.

        Raises:
            SettingsError: It will not, but `merged` is False.
        """
        apart = self.learns == "lora" and source is not None and adapter is None
        if not self.merged and not apart:
            why = "the model was taught before" if source is not None else "the model has no name to load it by"
            why = why if self.learns == "lora" else f"learns is {self.learns!r}"
            raise SettingsError(
                f"merged=False keeps LoRA beside a model that engines share; {why}, so leave merged out"
            )
        return apart

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FineTuning:
        """Read what `to_dict` gave, perhaps by way of JSON."""
        plain = dict(values)
        if isinstance(plain.get("loop"), Mapping):
            plain["loop"] = LoopSettings(**plain["loop"])
        if isinstance(plain.get("making"), Mapping):
            plain["making"] = QueryMaking(**plain["making"])
        if isinstance(plain.get("rewarding"), Mapping):
            plain["rewarding"] = RolloutSettings(**plain["rewarding"])
        return cls(**plain)

    def to_dict(self) -> JsonObject:
        """Turn into plain values what tells of the finder that was taught: without the files of one training."""
        return asdict(self.kept())

    def changed(self) -> JsonObject:
        """Give what differs from the defaults, by path."""
        own, usual = (dict(_flat(one.to_dict())) for one in (self, type(self)()))
        told = {path: value for path, value in own.items() if value != usual.get(path)}
        reward = self.rewarding.reward
        return told | ({"rewarding.reward": getattr(reward, "__name__", str(reward))} if callable(reward) else {})

    def kept(self) -> FineTuning:
        """Give what is kept of these settings after a training: all but its files and functions."""
        making, rewarding = self.making.kept(), self.rewarding.kept()
        return replace(self, checkpoint=None, curve=None, making=making, rewarding=rewarding)


def _flat(values: Mapping[str, object], path: str = "") -> Iterator[tuple[str, object]]:
    """List settings, those within others by their path."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value
