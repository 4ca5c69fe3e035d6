#!/usr/bin/env bash
# The commands of docs/how-to/compare-defences.md.
set -euo pipefail

engram transform clinic-letters --count 100 --seed 11 --out letters.jsonl
engram transform plant-canaries --data letters.jsonl --count 8 --out planted.jsonl
engram train pretrain-lm --data 'demo:letters?n=100' --layers 1 --width 64 --vocabulary 400 \
    --epochs 6 --learning-rate 1e-2 --batch-size 8 --out base

cat > same.toml <<'TOML'
base = "base"
data = "planted.jsonl"
holdout = 0.5
validation = 0.4
epochs = 8
batch-size = 8
learning-rate = 5e-3
observe = true
TOML
engram train finetune-lm --config same.toml --out plain
engram train finetune-lm --config same.toml --method lora --rank 4 --out lora
engram train goldfish-lm --config same.toml --out goldfish

engram compare plain lora goldfish --out compared
