#!/usr/bin/env bash
# The commands of docs/how-to/protect-images.md.
set -euo pipefail

engram transform partition --data sklearn:digits --limit 600 --out mine/
engram transform partition --data sklearn:digits --limit 600 --part outsiders --out theirs/

engram transform linear-shortcut --data mine --epsilon 0.1 --out shortcut/ \
    --show before-and-after.svg
engram transform bayes-error --data mine --epsilon 0.2 --out confused/
engram transform dp-pix --data mine --block 2 --pixels 4 --epsilon 4 --out mosaic/

engram train train-classifier --config thief.toml --data mine --out from-originals
engram train train-classifier --config thief.toml --data shortcut --out from-shortcut
engram train train-classifier --config thief.toml --data confused --out from-confused
engram train train-classifier --config thief.toml --data mosaic --out from-mosaic

engram measure accuracy from-originals --members mine --outsiders theirs
engram measure accuracy from-shortcut --members shortcut --outsiders theirs
engram measure accuracy from-confused --members confused --outsiders theirs
engram measure accuracy from-mosaic --members mosaic --outsiders theirs

engram measure visibility from-shortcut --originals mine --members shortcut \
    --outsiders theirs
engram measure bayes-error-bounds from-confused --members confused \
    --outsiders theirs
