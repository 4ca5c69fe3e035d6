#!/usr/bin/env bash
# The commands of docs/how-to/train-with-dp.md.
set -euo pipefail

engram transform clinic-letters --count 120 --seed 11 --out letters.jsonl
engram train pretrain-lm --data 'demo:letters?n=100' --layers 1 --width 64 --vocabulary 400 \
    --epochs 6 --learning-rate 1e-2 --batch-size 8 --out base

engram train dp-finetune-lm --base base --data letters.jsonl --epsilon 8 --delta 1e-3 \
    --accountant rdp --batch-size 30 --epochs 3 --holdout 0.5 --out private
engram audit private --battery quick

engram train dp-train-classifier --data sklearn:digits --epsilon 4 --epochs 8 --width 32 \
    --batch-size 128 --learning-rate 1e-2 --coins --holdout 0.5 --out private-digits
engram measure accuracy private-digits
engram measure epsilon-lower-bound private-digits
