"""Pages of reference from the sources: the command line, and the data sets that have a name."""

import re
from dataclasses import replace
from html import escape
from importlib import import_module

from method_pages import fields_of, inline

from engram.cli import COMMANDS
from engram.cli.help import EXAMPLES
from engram.cli.listing import LISTS
from engram.cli.options import (
    KIND_OF,
    common_fields,
    fields_of_command,
    flag_of,
    placeholder,
    usage_of,
)
from engram.data import describe_sources
from engram.explained import Field

BY_HAND = {
    "ls": "engram ls [KIND] [--json] [--store DIR] [--studies DIR]",
    "explain": "engram explain NAME [--json]",
    "completion": "engram completion bash|zsh|fish",
}
"""Commands that read their own words."""
SAID = {
    "ls": f"KIND is transforms, recipes, edits, attacks, measures, {', '.join(LISTS)}; without "
    "it, all methods are listed.",
    "explain": "NAME is a method's. The same is [its page here](../methods/index.md).",
    "completion": "Prints a script; `engram completion --help` says where it goes.",
}


def pages() -> dict[str, str]:
    """All pages by their paths."""
    return {"reference/command-line.md": _command_line(), "reference/data-sets.md": _data_sets()}


def _command_line() -> str:
    common = common_fields()
    parts = [
        "---\ndescription: Every command with its options and their defaults\n---",
        "# Command line",
        "Made from the sources of `engram COMMAND --help`, which says the same. The fields of a "
        "method (`--epochs`, say) are options too; they stand on "
        "[the method's page](../methods/index.md). One that is true or false is "
        "given as `--json` or `--no-json`. [Settings](settings.md) tells of configuration "
        "files, environment variables and exit codes.",
        "## Options of every command",
        fields_of([_shown(field) for field in common], "common"),
    ]
    for command, (_, what) in COMMANDS.items():
        parts += _command(command, what, {field.name for field in common})
    return "\n\n".join(parts) + "\n"


def _command(command: str, what: str, common: set[str]) -> list[str]:
    head = [f"## engram {command} {{ #{command} }}", f"{inline(_sentence(what))}"]
    if command in BY_HAND:
        return [*head, f"```text\n{BY_HAND[command]}\n```", SAID[command]]
    found = [field for field in fields_of_command(command) if field.name not in common]
    more = (
        (fields_of([_shown(f) for f in found], command),)
        if found
        else ("Only the options of every command.",)
    )
    if command in KIND_OF:
        kind = KIND_OF[command]
        more = (f"NAME is one of the [{kind}](../methods/{kind}/index.md); its fields are options "
                "too.", *more)  # fmt: skip
    examples = "\n".join(EXAMPLES[command])
    return [*head, f"```text\n{usage_of(command)}\n```", f"```sh\n{examples}\n```", *more]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "?")) else ".")


def _shown(field: Field) -> Field:
    """A field as it is given: an option by its flag, what is given by its place by its word."""
    inner = re.search(r"Positional\[(.+)\]$", field.type)
    if inner:
        return replace(field, name=placeholder(field).rstrip("."), type=inner.group(1))
    return replace(field, name=flag_of(field))


def _data_sets() -> str:
    rows = {"demo": [], "sklearn": [], "set": [], "scores": []}
    for source in describe_sources():
        rows.setdefault(source.kind, []).append((source.name, source.summary))
    parts = [
        "---\ndescription: Data sets that have a name, and where their files come from\n---",
        "# Data sets",
        "What `--data` understands beside [files of your own](files.md#records-in): names. "
        "`engram ls data` lists the same. Options stand behind a question mark: "
        "`--data 'demo:letters?n=600&seed=7'`.",
        "## Made here",
        _plain_table(rows["demo"]),
        "## From scikit-learn",
        "They come with scikit-learn, and nothing is fetched.",
        _plain_table(rows["sklearn"]),
        "## Published sets",
        "Nothing is downloaded: you fetch the files and put them below the folder that "
        "[`ENGRAM_DATA`](settings.md#environment-variables) names, under the paths that are told "
        "here. Each is compared with its SHA-256 before it is read; it may lie there compressed "
        "(`.gz`, `.xz`).",
        *(part for name, summary in (*rows["set"], *rows["scores"])
          for part in _published(name, summary)),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _published(name: str, summary: str) -> tuple[str, ...]:
    about = import_module(f"engram.data.sets.{name.replace('-', '_')}").ABOUT
    files = ", ".join(f"`{about.folder}/{file}`" for file in about.files)
    lines = [f"- files: {files}", f"- from: {inline(about.source)}", f"- licence: {about.licence}"]
    if about.made:
        lines.append(f"- made: {about.made}")
    for option, allowed in about.options.items():
        lines.append(f"- option `{option}`: {', '.join(allowed) or 'a number'}")
    return f"### {name}", inline(summary), "\n".join(lines)


def _plain_table(rows: list[tuple[str, str]]) -> str:
    lines = [f"| `{name}` | {escape(what, quote=False)} |" for name, what in rows]
    return "\n".join(["| name | what it is |", "| --- | --- |", *lines])
