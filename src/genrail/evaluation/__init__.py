"""Measure retrievers: runs, metrics, splits, significance, and the comparison that tells the user what to use."""

from genrail.evaluation.comparison import Comparison, compare, compare_evaluations
from genrail.evaluation.evaluations import Evaluation, Latency, evaluate, evaluate_next_item
from genrail.evaluation.metrics import DEFAULT_METRICS, Measured, Metric, measure
from genrail.evaluation.runs import Qrels, Run
from genrail.evaluation.significance import PairedTest, bootstrap_interval, holm, paired_test, randomisation_test
from genrail.evaluation.splits import HeldOut, Split, Training, leave_last_out
from genrail.evaluation.traps import Traps

__all__ = [
    "DEFAULT_METRICS",
    "Comparison",
    "Evaluation",
    "HeldOut",
    "Latency",
    "Measured",
    "Metric",
    "PairedTest",
    "Qrels",
    "Run",
    "Split",
    "Training",
    "Traps",
    "bootstrap_interval",
    "compare",
    "compare_evaluations",
    "evaluate",
    "evaluate_next_item",
    "holm",
    "leave_last_out",
    "measure",
    "paired_test",
    "randomisation_test",
]
