"""`engram COMMAND --help`: answered from files alone, without importing a command or a method."""

import re
import shutil
import sys
from textwrap import wrap

from engram import catalog
from engram.cli import COMMANDS
from engram.cli.options import (
    KIND_OF,
    choices_of,
    common_fields,
    fields_of_command,
    fields_of_method,
    flag_of,
    is_placed,
    placeholder,
    usage_of,
)
from engram.explained import Field, explained

EXAMPLES = {
    "demo": ("engram demo", "engram demo --quick"),
    "transform": (
        "engram transform clinic-letters --count 240 --out letters.jsonl",
        "engram transform deduplicate --data letters.jsonl --out fewer.jsonl",
    ),
    "train": (
        "engram train finetune-lm --base MODEL --data letters.jsonl --holdout 0.5 --out tuned",
        "engram train train-classifier --data sklearn:digits --out digits",
    ),
    "edit": ("engram edit npo tuned --forget forget.jsonl --out edited",),
    "audit": (
        "engram audit tuned",
        "engram audit MODEL --members trained.jsonl --outsiders never-seen.jsonl",
        "engram audit --scores losses.csv",
    ),
    "compare": ("engram compare plain regularised private",),
    "forget": (
        "engram forget tuned --owner patient-00025 --out forgotten",
        "engram forget tuned --owner patient-00025 --method auto --out forgotten",
        "engram forget tuned --owner patient-00025 --compare all",
    ),
    "measure": (
        "engram measure perplexity tuned",
        "engram measure extraction tuned --out what-it-recites",
    ),
    "check": ("engram check tuned --policy policy.toml",),
    "study": ("engram study", "engram study sisa --budget smoke"),
    "report": ("engram report runs/audit-f5114a33d4",),
    "verify": ("engram verify forgotten-evidence/certificate.json forgotten",),
    "reindex": ("engram reindex",),
    "view": ("engram view", "engram view --store runs --port 0"),
    "doctor": ("engram doctor", "engram doctor --json"),
    "prune": ("engram prune", "engram prune --cached --delete"),
}
"""How each command is used most."""
SHORT = {"int": "N", "float": "X", "str": "TEXT", "Path": "PATH", "bool": ""}
"""What stands for a value of each type."""
EMPTY = ("", "None", '""', "''", "()", "False")
"""Defaults of which there is nothing to say."""
WIDEST, MARGIN = 100, 24


def help_of(command: str, args: list[str]) -> str:
    """The help of a command, and of the method that its first argument names.

    Raises:
        EngramError: There is no method of that name.
    """
    named = [arg for arg in args[:1] if command in KIND_OF and not arg.startswith("-")]
    entry = catalog.find(KIND_OF[command], named[0]) if named else None
    common = [field.name for field in common_fields()]
    own = [field for field in fields_of_command(command) if field.name not in common]
    placed = [field for field in own if is_placed(field)]
    lines = [f"usage: {usage_of(command, entry.name if entry else 'NAME')}", ""]
    lines += _wrapped(entry.summary if entry else _sentence(COMMANDS[command][1]), "")
    lines += _section("", [(placeholder(field), field) for field in placed])
    if entry:
        lines += _section(f"fields of {entry.name}:", _flags(fields_of_method(command, entry.name)))
    lines += _section("options:", _flags([field for field in own if not is_placed(field)]))
    lines += _section("options of every command:", _flags(common_fields()))
    if entry:
        example = explained(entry).example
        return "\n".join([*lines, "", f"example: {example}", f"more: engram explain {entry.name}"])
    if command in KIND_OF:
        lines += _names(KIND_OF[command])
    return "\n".join([*lines, "", "examples:", *(f"  {each}" for each in EXAMPLES[command])])


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "?")) else ".")


def _names(kind: str) -> list[str]:
    found = catalog.entries(kind)
    lines = ["", f"NAME is one of the {kind} (engram explain NAME says more):"]
    for name, entry in found.items():
        lines += _row(name, entry.summary)
    return lines


def _flags(fields: tuple[Field, ...] | list[Field]) -> list[tuple[str, Field]]:
    return [(_flag(field), field) for field in fields]


def _flag(field: Field) -> str:
    """An option with what stands for its value; a switch that is on, with what turns it off."""
    if field.type == "bool":
        flag = flag_of(field)
        return f"{flag}, --no-{flag[2:]}" if field.default == "True" else flag
    kind = field.type.removesuffix(" | None")
    if choices := choices_of(kind):
        return f"{flag_of(field)} {'|'.join(choices)}"
    if kind.startswith("tuple["):
        inner, _, more = kind[6:-1].partition(", ")
        one = SHORT.get(inner, inner)
        return f"{flag_of(field)} {one} {one if more != '...' else '...'}"
    return f"{flag_of(field)} {SHORT.get(kind, kind)}"


def _section(title: str, rows: list[tuple[str, Field]]) -> list[str]:
    if not rows:
        return []
    lines = ["", *([title] if title else [])]
    for head, field in rows:
        lines += _row(head, f"{field.help}{_default(field)}")
    return lines


def _default(field: Field) -> str:
    if field.default in EMPTY or is_placed(field):
        return ""
    if field.type == "bool":
        return " (default: on)"
    shown = re.sub(r"^Path\((.*)\)$", r"\1", field.default)
    return f" (default: {shown.strip(chr(34))})"


def _row(head: str, text: str) -> list[str]:
    """An entry beside its explanation, or above it where it is long."""
    told = _wrapped(text, " " * MARGIN)
    if len(head) + 4 > MARGIN or not told:
        return [*_wrapped(head, "  ", "      "), *told]
    return [f"  {head}".ljust(MARGIN) + told[0].lstrip(), *told[1:]]


def _wrapped(text: str, indent: str, further: str = "") -> list[str]:
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDEST
    width = max(MARGIN + 20, min(WIDEST, columns))
    return wrap(text, width, initial_indent=indent, subsequent_indent=further or indent,
                break_on_hyphens=False, break_long_words=False)  # fmt: skip
