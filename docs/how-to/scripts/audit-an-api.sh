#!/usr/bin/env bash
# The commands of docs/how-to/audit-an-api.md.
set -euo pipefail

engram transform clinic-letters --count 80 --seed 11 --out letters.jsonl
engram transform partition --data letters.jsonl --part members --out trained.jsonl
engram transform partition --data letters.jsonl --part outsiders --out held-out.jsonl
engram train pretrain-lm --data trained.jsonl --holdout 0 --layers 1 --width 64 \
    --vocabulary 400 --context 512 --epochs 15 --learning-rate 1e-2 --batch-size 8 --out my-model

port=${PORT:-8017}
python serve_completions.py my-model "$port" &
trap "kill $!" EXIT
until curl --silent --output /dev/null "http://127.0.0.1:$port/v1/models"; do sleep 0.2; done

engram audit "openai://127.0.0.1:$port/my-model" --members trained.jsonl \
    --outsiders held-out.jsonl --max-requests 500
