"""Constrained decoding: beam search, scoring, and the story of a search. Works on NumPy arrays; models bring torch."""

from genrail.decoding.answers import Decoded
from genrail.decoding.beam_search import beam_search
from genrail.decoding.calibration import calibrate
from genrail.decoding.diversity import diversify
from genrail.decoding.evidence import EvidenceSettings, gather_evidence, unigram_weights, weigh_keys
from genrail.decoding.exact import ExactSettings, exact_search
from genrail.decoding.ngrams import NgramSettings
from genrail.decoding.sampling import SampleSettings, sample_search
from genrail.decoding.scoring import score_sequences
from genrail.decoding.settings import BeamSettings
from genrail.decoding.trace import DecodeTrace

__all__ = [
    "BeamSettings",
    "DecodeTrace",
    "Decoded",
    "EvidenceSettings",
    "ExactSettings",
    "NgramSettings",
    "SampleSettings",
    "beam_search",
    "calibrate",
    "diversify",
    "exact_search",
    "gather_evidence",
    "sample_search",
    "score_sequences",
    "unigram_weights",
    "weigh_keys",
]
