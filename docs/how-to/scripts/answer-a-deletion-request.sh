#!/usr/bin/env bash
# The commands of docs/how-to/answer-a-deletion-request.md.
set -euo pipefail

engram transform clinic-letters --count 80 --seed 11 --out letters.jsonl
engram train pretrain-lm --data 'demo:letters?n=100' --layers 1 --width 64 --vocabulary 400 \
    --epochs 6 --learning-rate 1e-2 --batch-size 8 --out base
engram train finetune-lm --base base --data letters.jsonl --holdout 0.5 --epochs 8 \
    --learning-rate 5e-3 --batch-size 8 --out tuned

engram forget tuned --owner patient-00007 --requested-by "case 17" --method retrain \
    --battery quick --out forgotten

engram verify forgotten-evidence/certificate.json forgotten

sed 's/case 17/case 18/' forgotten-evidence/certificate.json > altered.json
engram verify altered.json forgotten || echo "exit code $?"
