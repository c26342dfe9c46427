"""Engines: catalogue, identifiers, constraint and model, put together."""

from genrail.retrieval.engine import Edition, Engine

__all__ = ["Edition", "Engine", "load"]

load = Engine.load
