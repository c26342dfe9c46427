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
BEAMS_SHOWN = 2
CHILDREN_SHOWN = 3
BAR = 10


def draw_rails(trace: Trace, title: str = "the rails") -> None:
    """Print the steps of a decode as a tree, with what each prefix stands for.

    Args:
        trace: From an answer with ``explain=True``.
        title: Stands at the root.
    """
    Console().print(rails(trace, title))


def rails(trace: Trace, title: str) -> Tree:
    """Make the tree that `draw_rails` prints."""
    root = Tree(_line(title, style="bold"))
    for number, step in enumerate(trace.steps, start=1):
        branch = root.add(_headline(number, step))
        for beam in step.beams[:BEAMS_SHOWN]:
            _beam(branch, beam, set(step.kept), trace)
        if len(step.beams) > BEAMS_SHOWN:
            branch.add(_line(f"and {len(step.beams) - BEAMS_SHOWN} more", style="dim"))
    return root


def _line(text: str = "", style: str = "") -> Text:
    """Make a line that is cut at the terminal's edge, never broken."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _headline(number: int, step: TracedStep) -> Text:
    allowed = sum(len(beam.children) for beam in step.beams)
    return _line(
        f"step {number}: {_count(len(step.beams), 'beginning')}, {allowed} continuations, {len(step.kept)} kept"
    )


def _beam(branch: Tree, beam: TracedBeam, kept: set[Prefix], trace: Trace) -> None:
    name = plain(trace.spell(beam.prefix)) if beam.prefix else "start"
    head = f"{' '.join(map(str, beam.prefix))} ({name})" if beam.prefix else name
    if beam.removed > 5e-4:
        head += f"; forbidden: {beam.removed:.0%} of the probability"
    lines = branch.add(_line(head))
    for child in np.argsort(-beam.log_probabilities, kind="stable")[:CHILDREN_SHOWN].tolist():
        prefix = (*beam.prefix, int(beam.children[child]))
        lines.add(
            _child(prefix, float(np.exp(beam.log_probabilities[child])), int(beam.items[child]), prefix in kept, trace)
        )


def _child(prefix: Prefix, probability: float, items: int, lives: bool, trace: Trace) -> Text:
    filled = round(probability * BAR)
    text = _line(f"{'█' * filled}{'·' * (BAR - filled)}{probability:5.0%} {prefix[-1]:>5} {'kept' if lives else '':4} ")
    text.append(f"{_count(items, 'item')}: {plain(trace.spell(prefix))}", style="dim")
    return text


def _count(number: int, one: str) -> str:
    return f"{number} {one}{'' if number == 1 else 's'}"
