"""The options of every command and method, read from their files: nothing is imported."""

import ast
from pathlib import Path

from engram import catalog
from engram.cli import COMMANDS
from engram.explained import Field
from engram.explained.source import read_class

HERE = Path(__file__).parent
COMMON = "Common"
"""The class of the options that every command has."""
KIND_OF = {"transform": "transforms", "train": "recipes", "edit": "edits", "measure": "measures"}
"""The commands whose first word is a method's name."""
BY_HAND = {"ls": ("--json", "--store", "--studies"), "explain": ("--json",),
           "completion": ("--json",)}  # fmt: skip
"""The options of commands that read their own."""
BARE = ("audit", "verify", "study")
"""Commands that do something where nothing is given by its place."""


def options_class(command: str) -> str:
    """The name of the class of a command's options: the first that its function parses."""
    tree = ast.parse((HERE / f"{COMMANDS[command][0]}.py").read_text(encoding="utf-8"))
    (function,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == command)
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("parse", "_parse"):
            names = [arg.id for arg in node.args if isinstance(arg, ast.Name)]
            return next(name for name in names if name == COMMON or name.endswith("Options"))
    return COMMON


def fields_of_command(command: str) -> tuple[Field, ...]:
    """What a command takes, with what every command takes; not of those in `BY_HAND`."""
    name = options_class(command)
    home = "parse" if name == COMMON else COMMANDS[command][0]
    return read_class(f"engram.cli.{home}:{name}").fields


def common_fields() -> tuple[Field, ...]:
    """What every command takes."""
    return read_class(f"engram.cli.parse:{COMMON}").fields


def fields_of_method(command: str, name: str) -> tuple[Field, ...]:
    """The fields of the method that a command names; none where there is none of that name."""
    entry = catalog.entries(KIND_OF[command]).get(name) if command in KIND_OF and name else None
    return read_class(entry.address).fields if entry else ()


def flag_of(field: Field) -> str:
    """A field as an option: `--batch-size`."""
    return f"--{field.name.replace('_', '-')}"


def is_placed(field: Field) -> bool:
    """Whether it is given by its place, and not by a flag."""
    return "Positional" in field.type


def placeholder(field: Field) -> str:
    """What stands for a field that is given by its place."""
    several = "tuple" in field.type or "list" in field.type
    return f"{field.name.upper().rstrip('S')}..." if several else field.name.upper()


def usage_of(command: str, method: str = "NAME") -> str:
    """How a command is called, in one line."""
    placed = [placeholder(field) for field in fields_of_command(command) if is_placed(field)]
    words = [f"[{each}]" if command in BARE else each for each in placed]
    return " ".join(["engram", command, *[method] * (command in KIND_OF), *words, "[OPTIONS]"])


def choices_of(kind: str) -> list[str]:
    """The words that a type `Literal[...]` allows; none of another type."""
    node = ast.parse(kind, mode="eval").body
    if not (isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal"):
        return []
    every = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    return [str(each.value) for each in every if isinstance(each, ast.Constant)]
