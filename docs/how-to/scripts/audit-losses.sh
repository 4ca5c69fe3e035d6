#!/usr/bin/env bash
# The commands of docs/how-to/audit-losses.md.
set -euo pipefail

engram transform clinic-letters --count 80 --seed 11 --out letters.jsonl
engram transform partition --data letters.jsonl --part members --out trained.jsonl
engram transform partition --data letters.jsonl --part outsiders --out held-out.jsonl
engram train pretrain-lm --data 'demo:letters?n=100' --layers 1 --width 64 --vocabulary 400 \
    --epochs 6 --learning-rate 1e-2 --batch-size 8 --out base
engram train finetune-lm --base base --data trained.jsonl --holdout 0 --epochs 10 \
    --learning-rate 5e-3 --batch-size 8 --out tuned

python losses_of.py tuned base trained.jsonl held-out.jsonl > losses.csv
head -n 3 losses.csv | cut -c 1-75

engram audit --scores losses.csv --out losses-audit
