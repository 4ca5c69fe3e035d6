#!/usr/bin/env bash
# The commands of docs/how-to/delete-from-a-table.md.
set -euo pipefail

engram train sisa --data sklearn:digits --shards 4 --slices 3 --epochs 20 --width 32 --out digits
ids=$(python some_ids.py digits 2)
engram forget digits --ids "$ids" --out digits-2
engram verify digits-2-evidence/certificate.json digits-2

engram train eupg --data sklearn:digits --k 5 --epochs 12 --width 32 --out protected
engram forget protected --ids "$ids" --out protected-2
