#!/usr/bin/env bash
# The commands of docs/how-to/protect-images.md.
set -euo pipefail

engram transform partition --data sklearn:digits --limit 600 --out mine.parquet
engram transform partition --data sklearn:digits --limit 600 --part outsiders --out theirs.parquet

engram transform linear-shortcut --data mine.parquet --epsilon 0.1 --out shortcut.parquet \
    --show before-and-after.svg
engram transform bayes-error --data mine.parquet --epsilon 0.2 --out confused.parquet
engram transform dp-pix --data mine.parquet --block 2 --pixels 4 --epsilon 4 --out mosaic.parquet

engram train train-classifier --config thief.toml --data mine.parquet --out from-originals
engram train train-classifier --config thief.toml --data shortcut.parquet --out from-shortcut
engram train train-classifier --config thief.toml --data confused.parquet --out from-confused
engram train train-classifier --config thief.toml --data mosaic.parquet --out from-mosaic

engram measure accuracy from-originals --members mine.parquet --outsiders theirs.parquet
engram measure accuracy from-shortcut --members shortcut.parquet --outsiders theirs.parquet
engram measure accuracy from-confused --members confused.parquet --outsiders theirs.parquet
engram measure accuracy from-mosaic --members mosaic.parquet --outsiders theirs.parquet

engram measure visibility from-shortcut --originals mine.parquet --members shortcut.parquet \
    --outsiders theirs.parquet
engram measure bayes-error-bounds from-confused --members confused.parquet \
    --outsiders theirs.parquet
