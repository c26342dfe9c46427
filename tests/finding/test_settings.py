"""Settings of a recipe are reached by name, by path, and by the end of a path that only one has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from genrail.errors import SettingsError
from genrail.finding import Finder, Recipe


@dataclass(frozen=True)
class Loop:
    epochs: int = 20
    rate: float = 0.1


@dataclass(frozen=True)
class Training:
    loop: Loop = field(default_factory=Loop)
    batch: int = 8
    width: int = 5


@dataclass(frozen=True)
class Network:
    width: int = 64


@dataclass(frozen=True)
class Layered(Recipe):
    kind: ClassVar[str] = "layered"
    finder: ClassVar[type[Finder]] = Finder

    training: Training = field(default_factory=Training)
    network: Network = field(default_factory=Network)
    name: str = "x"


@pytest.mark.parametrize("setting", ["epochs", "loop.epochs", "training.loop.epochs"])
def test_a_setting_within_a_setting_is_reached_by_the_end_of_its_path(setting):
    made = Layered.from_dict({setting: 1, "name": "y", "batch": 2})
    assert made == Layered(Training(Loop(epochs=1), batch=2), Network(), "y")


def test_a_path_goes_into_what_is_given_besides():
    given = Training(Loop(rate=0.5), batch=3)
    assert Layered.from_dict({"training": given, "epochs": 2}) == Layered(Training(Loop(2, 0.5), 3))


def test_a_name_that_two_have_is_refused_until_it_is_clear():
    with pytest.raises(SettingsError, match=r"training\.width or network\.width"):
        Layered.from_dict({"width": 8})
    assert Layered.from_dict({"network.width": 8}).network.width == 8


@pytest.mark.parametrize("setting", ["epoch", "pochs", "loop", "network.loop.epochs", ""])
def test_a_setting_that_nobody_has_is_named(setting):
    with pytest.raises(SettingsError, match="has no setting"):
        Layered.from_dict({setting: 1})
