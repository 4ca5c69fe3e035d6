#!/usr/bin/env bash
# The commands of docs/how-to/scan-for-a-backdoor.md.
set -euo pipefail

engram transform plant-trigger --data sklearn:digits --target 7 --share 0.2 --out poisoned.parquet
engram train train-classifier --data poisoned.parquet --architecture cnn --width 16 --epochs 15 \
    --learning-rate 3e-3 --out suspect
engram train train-classifier --data sklearn:digits --architecture cnn --width 16 --epochs 15 \
    --learning-rate 3e-3 --out honest

engram measure backdoor-scan suspect --steps 80 --records 100
engram measure backdoor-scan honest --steps 80 --records 100
engram measure attack-success suspect
