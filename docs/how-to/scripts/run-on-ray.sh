#!/usr/bin/env bash
# The commands of docs/how-to/run-on-ray.md.
set -euo pipefail

engram train train-classifier --data sklearn:iris --epochs 20 --holdout 0.5 --out flowers
engram audit flowers --shadows 4 --cluster local
