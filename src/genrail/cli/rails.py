"""Draw a decode on the terminal: what each step allowed, how probable it was, which beams lived on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from genrail.cli.console import plain

if TYPE_CHECKING:
    from genrail.decoding.trace import TracedBeam, TracedStep
    from genrail.finding import Trace

__all__ = ["draw_rails", "rails"]

Prefix = tuple[int, ...]
BEAMS_SHOWN = 3
CHILDREN_SHOWN = 4
BAR = 12


def draw_rails(trace: Trace, title: str = "the rails") -> None:
    """Print the steps of a decode as a tree, with what each prefix stands for.

    Args:
        trace: From an answer with ``explain=True``.
        title: Stands at the root.
    """
    Console().print(rails(trace, title))


def rails(trace: Trace, title: str) -> Tree:
    """Make the tree that `draw_rails` prints."""
    root = Tree(Text(title, style="bold"))
    for number, step in enumerate(trace.steps, start=1):
        branch = root.add(_headline(number, step))
        for beam in step.beams[:BEAMS_SHOWN]:
            _beam(branch, beam, set(step.kept), trace)
        if len(step.beams) > BEAMS_SHOWN:
            branch.add(Text(f"and {len(step.beams) - BEAMS_SHOWN} more beams", style="dim"))
    return root


def _headline(number: int, step: TracedStep) -> Text:
    allowed = sum(len(beam.children) for beam in step.beams)
    return Text(
        f"step {number}: {len(step.beams)} beams, {allowed} continuations allowed, "
        f"{len(step.kept)} live on, {len(step.died)} end here"
    )


def _beam(branch: Tree, beam: TracedBeam, kept: set[Prefix], trace: Trace) -> None:
    head = f"{_name(beam.prefix)}  {len(beam.children)} children"
    if beam.removed > 5e-4:
        head += f", {beam.removed:.1%} of the probability was off the rails"
    lines = branch.add(Text(head))
    for child in np.argsort(-beam.log_probabilities, kind="stable")[:CHILDREN_SHOWN].tolist():
        prefix = (*beam.prefix, int(beam.children[child]))
        lines.add(
            _child(prefix, float(np.exp(beam.log_probabilities[child])), int(beam.items[child]), prefix in kept, trace)
        )


def _child(prefix: Prefix, probability: float, items: int, lives: bool, trace: Trace) -> Text:
    filled = round(probability * BAR)
    text = Text(f"{'█' * filled}{'·' * (BAR - filled)} {probability:6.1%}  {prefix[-1]:>5}  ")
    text.append(f"{items} item{'s' if items != 1 else ''}".ljust(11))
    text.append("on " if lives else "   ")
    text.append(plain(trace.spell(prefix)), style="dim")
    return text


def _name(prefix: Prefix) -> str:
    return "start" if not prefix else " ".join(map(str, prefix))
