#!/usr/bin/env bash
# The commands of docs/how-to/audit-a-model.md.
set -euo pipefail

engram transform clinic-letters --count 80 --seed 11 --out letters.jsonl
engram transform partition --data letters.jsonl --part members --out trained.jsonl
engram transform partition --data letters.jsonl --part outsiders --out held-out.jsonl
engram train pretrain-lm --data 'demo:letters?n=100' --layers 1 --width 64 --vocabulary 400 \
    --epochs 6 --learning-rate 1e-2 --batch-size 8 --out base
engram train finetune-lm --base base --data trained.jsonl --holdout 0 --epochs 10 \
    --learning-rate 5e-3 --batch-size 8 --out tuned
mkdir my-model
cp tuned/*config.json tuned/tokenizer.json tuned/model.safetensors my-model

engram audit my-model --members trained.jsonl --outsiders held-out.jsonl --reference base \
    --out my-audit

cat > policy.toml <<'TOML'
[[limit]]
method = "reference"
name = "AUC"
split = "records"
use = "high"
max = 0.60
TOML
engram check my-audit --policy policy.toml || echo "exit code $?"
