#!/usr/bin/env bash
# The commands of docs/how-to/delete-from-a-graph.md.
set -euo pipefail

engram train graph-eraser --data 'demo:graph?n=400&communities=8&classes=4' --shards 4 \
    --partition blpa --epochs 20 --out nodes
ids=$(python some_ids.py nodes 2)
engram forget nodes --ids "$ids" --out nodes-2

engram verify nodes-2-evidence/certificate.json nodes-2
