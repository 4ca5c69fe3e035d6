#!/usr/bin/env bash
# The commands of docs/how-to/stop-in-time.md.
set -euo pipefail

engram transform clinic-letters --count 100 --seed 11 --out letters.jsonl
engram transform partition --data letters.jsonl --part members --out trained.jsonl
engram transform partition --data letters.jsonl --part outsiders --out held-out.jsonl
engram train pretrain-lm --data 'demo:letters?n=100' --layers 1 --width 64 --vocabulary 400 \
    --epochs 6 --learning-rate 1e-2 --batch-size 8 --out base

python stop_in_time.py

engram train finetune-lm --base base --data letters.jsonl --holdout 0.5 --validation 0.5 \
    --stop perplexity --patience 2 --epochs 20 --learning-rate 2e-2 --batch-size 8 --out watched
