"""Engines: one catalogue and one finder, live, in a folder."""

from genrail.decoding.decoders import Calibrated, Diverse
from genrail.engine.comparing import compare
from genrail.engine.engine import Engine
from genrail.engine.live import MergeSettings
from genrail.engine.shard_plan import ShardSettings
from genrail.finding import Edition

__all__ = ["Calibrated", "Diverse", "Edition", "Engine", "MergeSettings", "ShardSettings", "compare", "load"]

load = Engine.load
