"""Print a line for each record: whether it was trained on, two losses, whose it is, its text."""

import csv
import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def losses(folder: str, texts: list[str]) -> list[float]:
    """The mean over a text's tokens of -log p(token | those before it), in nats."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    found = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt", truncation=True).input_ids
        with torch.inference_mode():
            found.append(model(ids, labels=ids).loss.item())
    return found


model, reference, *files = sys.argv[1:]
records = []
for path, member in zip(files, (1, 0), strict=True):
    with open(path, encoding="utf-8") as lines:
        records += [(member, json.loads(line)) for line in lines]
texts = [record["text"] for _, record in records]
table = csv.writer(sys.stdout)
table.writerow(["id", "member", "target_nll", "reference_nll", "owner", "text"])
both = zip(records, losses(model, texts), losses(reference, texts), strict=True)
for number, ((member, record), own, other) in enumerate(both):
    shown = [number, member, f"{own:.5f}", f"{other:.5f}"]
    table.writerow([*shown, record.get("owner"), record["text"]])
