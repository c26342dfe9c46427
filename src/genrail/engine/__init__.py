"""Engines: one catalogue and one finder, live, in a folder."""

from genrail.decoding.decoders import Calibrated, Diverse
from genrail.engine.comparing import compare
from genrail.engine.engine import Engine
from genrail.engine.live import MergeSettings
from genrail.finding import Edition

__all__ = ["Calibrated", "Diverse", "Edition", "Engine", "MergeSettings", "compare", "load"]

load = Engine.load
