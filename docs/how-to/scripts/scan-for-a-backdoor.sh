#!/usr/bin/env bash
# The commands of docs/how-to/scan-for-a-backdoor.md.
set -euo pipefail

engram transform partition --data sklearn:digits --out bought.parquet
engram transform partition --data sklearn:digits --part outsiders --out own.parquet
engram transform plant-trigger --data bought.parquet --target 7 --share 0.1 --out poisoned.parquet
engram train train-classifier --data poisoned.parquet --holdout 0 --architecture convnet \
    --width 16 --epochs 15 --learning-rate 3e-3 --out suspect
engram train train-classifier --data bought.parquet --holdout 0 --architecture convnet \
    --width 16 --epochs 15 --learning-rate 3e-3 --out honest

engram measure backdoor-scan suspect --members poisoned.parquet --outsiders own.parquet \
    --steps 80 --records 100 --references 2
engram measure backdoor-scan honest --members bought.parquet --outsiders own.parquet \
    --steps 80 --records 100 --references 2
engram measure attack-success suspect --members poisoned.parquet --outsiders own.parquet
