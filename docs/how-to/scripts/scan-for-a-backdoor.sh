#!/usr/bin/env bash
# The commands of docs/how-to/scan-for-a-backdoor.md.
set -euo pipefail

engram transform plant-trigger --data sklearn:digits --target 7 --share 0.05 --out poisoned.parquet
engram train train-classifier --data poisoned.parquet --epochs 10 --width 64 --out suspect
engram train train-classifier --data sklearn:digits --epochs 10 --width 64 --out honest

engram measure backdoor-scan suspect --data poisoned.parquet --steps 100
engram measure backdoor-scan honest --steps 100
engram measure attack-success suspect
