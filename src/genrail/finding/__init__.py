"""The seam between an engine and whatever finds items: protocols, requests, the gate, the making of hits, kinds."""

from genrail.finding.answering import Edition, Searching, answer_each, raised
from genrail.finding.data import Data
from genrail.finding.finder import (
    Added,
    Change,
    Finder,
    FindOptions,
    Found,
    Json,
    Progress,
    Recipe,
    Report,
    RowScores,
    Scorer,
    Trace,
)
from genrail.finding.gate import Gate
from genrail.finding.registry import kinds, recipe_named, recipe_type, register
from genrail.finding.requests import FilterCache, Request, resolve
from genrail.finding.saving import open_finder, save_finder

__all__ = [
    "Added",
    "Change",
    "Data",
    "Edition",
    "FilterCache",
    "FindOptions",
    "Finder",
    "Found",
    "Gate",
    "Json",
    "Progress",
    "Recipe",
    "Report",
    "Request",
    "RowScores",
    "Scorer",
    "Searching",
    "Trace",
    "answer_each",
    "kinds",
    "open_finder",
    "raised",
    "recipe_named",
    "recipe_type",
    "register",
    "resolve",
    "save_finder",
]
