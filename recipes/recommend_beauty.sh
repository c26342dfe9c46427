#!/bin/sh
# Measure every next-item lane on a folder with items.csv(.gz) and sequences.csv(.gz), in one table with pictures.
#
#     recipes/recommend_beauty.sh ../shared/data/amazon_beauty [OUT] [further options of next_item_table.py]
#
# OUT (default: next-item-figures) takes what the lanes answered, figures.json and report.html.
set -eu
folder=${1:?"give a folder with items.csv(.gz) and sequences.csv(.gz)"}
out=${2:-next-item-figures}
if [ "$#" -ge 2 ]; then shift 2; else shift 1; fi
exec "${PYTHON:-python}" "$(dirname "$0")/next_item_table.py" "$folder" --out "$out" "$@"
