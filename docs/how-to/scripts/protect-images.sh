#!/usr/bin/env bash
# The commands of docs/how-to/protect-images.md.
set -euo pipefail

engram transform partition --data sklearn:digits --limit 600 --out mine.parquet
engram transform partition --data sklearn:digits --limit 600 --part outsiders --out theirs.parquet

engram transform error-minimising --data mine.parquet --each class --epsilon 0.1 --rounds 4 \
    --epochs 4 --out protected.parquet --show before-and-after.svg
engram transform dp-pix --data mine.parquet --block 2 --pixels 4 --epsilon 4 --out mosaic.parquet

engram train train-classifier --data mine.parquet --holdout 0 --epochs 10 --width 32 --out clean
engram train train-classifier --data protected.parquet --holdout 0 --epochs 10 --width 32 \
    --out thief
engram measure accuracy clean --members mine.parquet --outsiders theirs.parquet
engram measure accuracy thief --members protected.parquet --outsiders theirs.parquet
engram measure visibility thief --originals mine.parquet --members protected.parquet \
    --outsiders theirs.parquet
engram measure bayes-error-bounds thief --members protected.parquet --outsiders theirs.parquet
