#!/usr/bin/env bash
# The commands of docs/how-to/add-a-method.md.
set -euo pipefail

mkdir -p my-attack/src/my_attack
cp worst_token.py my-attack/src/my_attack
touch my-attack/src/my_attack/__init__.py
cat > my-attack/pyproject.toml <<'TOML'
[build-system]
requires = ["hatchling>=1.25"]
build-backend = "hatchling.build"

[project]
name = "my-attack"
version = "0.1.0"
dependencies = ["engram"]

[project.entry-points."engram.attacks"]
worst-token = "my_attack.worst_token:WorstToken"
TOML
pip install ./my-attack

engram ls attacks | grep worst-token
engram explain worst-token

engram train pretrain-lm --data 'demo:letters?n=80' --layers 1 --width 64 --vocabulary 400 \
    --holdout 0.5 --epochs 15 --learning-rate 1e-2 --batch-size 8 --out model
engram audit model --attacks loss,worst-token
