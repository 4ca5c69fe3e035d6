"""The public surface of the methods: names, fields, types and defaults, kept as a file.

A change shows in review. Write the file anew with `ENGRAM_UPDATE_SURFACE=1 pytest tests/surface`.
"""

import json
import os
from dataclasses import MISSING, fields
from pathlib import Path

from engram.catalog import KINDS, entries

SNAPSHOT = Path(__file__).with_name("methods.json")


def described(method) -> dict:
    found = {field.name: field_of(field) for field in fields(method)}
    for name in ("needs", "families", "access", "family"):
        if hasattr(method, name):
            value = getattr(method, name)
            found[f"({name})"] = sorted(value) if isinstance(value, frozenset) else value
    return found


def field_of(field) -> dict:
    default = field.default if field.default is not MISSING else field.default_factory()
    kind = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", "")
    written = kind if kind and kind not in ("Literal", "Optional") else str(field.type)
    return {"type": written.replace("typing.", ""), "default": json.loads(json.dumps(default))}


def surface() -> dict:
    ours = {
        kind: {
            name: entry for name, entry in entries(kind).items() if entry.address[:7] == "engram."
        }
        for kind in KINDS
    }
    return {
        kind: {name: described(entry.load()) for name, entry in found.items()}
        for kind, found in ours.items()
    }


def test_methods_are_as_they_were():
    now = json.dumps(surface(), indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("ENGRAM_UPDATE_SURFACE"):
        SNAPSHOT.write_text(now, encoding="utf-8")
    then = SNAPSHOT.read_text(encoding="utf-8")
    assert json.loads(now) == json.loads(then), (
        "the methods' names, fields or defaults changed; if that is meant, run "
        "ENGRAM_UPDATE_SURFACE=1 pytest tests/surface and commit the file"
    )
