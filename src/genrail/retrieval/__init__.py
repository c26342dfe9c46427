"""Engines: catalogue, identifiers, constraint and model, put together."""

from genrail.retrieval.decoders import Calibrated, Diverse
from genrail.retrieval.edition import Edition
from genrail.retrieval.engine import Engine
from genrail.retrieval.updates import MergeSettings

__all__ = ["Calibrated", "Diverse", "Edition", "Engine", "MergeSettings", "load"]

load = Engine.load
