#!/bin/sh
# Compare every search method on the public sets: recipes/compare_search.sh DATA WORK
# DATA holds esci_small, scifact and xquad_en; vectors, towers and reports go to WORK.
set -eu
cd "$(dirname "$0")/.."
PYTHONPATH=. "${PYTHON:-.venv/bin/python}" recipes/compare_search.py \
    --data "${1:?folder of the data sets}" --work "${2:?folder for vectors and reports}" --reports "$2/reports" \
    --sets esci_small xquad_en scifact
