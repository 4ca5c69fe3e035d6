"""`engram completion SHELL`: a script by which a shell completes commands, names and options.

The script asks `engram completion --answer SHELL LINE` at every press of the key. The answer is
read from files, like that of `engram ls`: no method is imported, so it comes at once.
"""

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from engram import catalog
from engram.cli import COMMANDS
from engram.cli.listing import LISTS
from engram.cli.options import (
    BY_HAND,
    KIND_OF,
    choices_of,
    fields_of_command,
    fields_of_method,
    flag_of,
    is_placed,
)
from engram.core.errors import EngramError, nearest
from engram.explained import Field

BATTERIES, DEVICES = ("quick", "standard", "thorough"), ("auto", "cpu", "cuda")
BUDGETS, LONG = ("smoke", "small", "full"), ("window", "refuse")

BASH = """\
# Tab completion of engram in bash. In ~/.bashrc:  eval "$(engram completion bash)"
_engram() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("${line%%$'\\t'*}")
    done < <(command engram completion --answer bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
}
complete -o default -F _engram engram
"""
ZSH = """\
#compdef engram
# Tab completion of engram in zsh. In ~/.zshrc, after compinit:  eval "$(engram completion zsh)"
_engram() {
    local line
    local -a found told
    while IFS= read -r line; do
        found+=("${line%%$'\\t'*}")
        told+=("${line/$'\\t'/  }")
    done < <(command engram completion --answer zsh "${(j: :)words[1,CURRENT]}" 2>/dev/null)
    if (( $#found )); then
        compadd -l -d told -a found
    else
        _files
    fi
}
compdef _engram engram
"""
FISH = """\
# Tab completion of engram in fish. Once:
#   engram completion fish > ~/.config/fish/completions/engram.fish
function __engram_answer
    set -l found (command engram completion --answer fish (commandline -cp | string collect) 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c engram -f -a '(__engram_answer)'
"""  # noqa: E501 - fish has no good way to break a line there
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
USAGE = """usage: engram completion bash|zsh|fish [--json]
  bash: eval "$(engram completion bash)"     in ~/.bashrc
  zsh:  eval "$(engram completion zsh)"      in ~/.zshrc, after compinit
  fish: engram completion fish > ~/.config/fish/completions/engram.fish"""

Answer = Iterator[tuple[str, str]]
"""Words with what they mean."""


def completion(args: list[str]) -> int:
    """`engram completion bash|zsh|fish`: the script of a shell."""
    if args[:1] == ["--answer"]:
        return _tell(*args[1:3])
    if any(arg in ("-h", "--help") for arg in args):
        print(USAGE)
        return 0
    named = [arg for arg in args if arg != "--json"]
    if len(named) != 1 or named[0] not in SCRIPTS:
        asked = " ".join(named)
        raise EngramError(
            f"there is no completion for {asked!r}" if named else "no shell is named",
            hint=nearest(asked, SCRIPTS, f"there are {', '.join(SCRIPTS)}"),
        )
    script = SCRIPTS[named[0]]
    if "--json" in args:
        print(json.dumps({"shell": named[0], "script": script}))
    else:
        sys.stdout.write(script)
    return 0


def _tell(shell: str = "", line: str = "") -> int:
    words = words_of(line)
    for word, help in answer(words):
        if shell == "bash":  # which takes `:` and `=` for the ends of words
            word = word[max(words[-1].rfind(":"), words[-1].rfind("=")) + 1 :]
        print(word if shell == "bash" or not help else f"{word}\t{help}")
    return 0


def words_of(line: str) -> list[str]:
    """The words of a command line after its first; the last one is unfinished, perhaps empty."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        words += lexer
    except ValueError:  # a quotation that is not closed yet
        words.append(lexer.token)
    if not line or line[-1].isspace():
        words.append("")
    return words[1:] or [""]


def answer(words: list[str]) -> Answer:
    """What the last of these words can be; nothing where only a file can stand."""
    *before, word = words
    if not before:
        return _starting(word, _commands())
    command, *rest = before
    if command == "help":
        return _starting(word, _commands()) if not rest else iter(())
    if command not in COMMANDS:
        return iter(())
    name = rest[0] if command in KIND_OF and rest else ""
    option, mark, value = word.partition("=")
    if mark and option.startswith("--"):
        found = _values(command, name, option, value)
        return ((f"{option}={choice}", help) for choice, help in found)
    if rest and rest[-1].startswith("--") and "=" not in rest[-1]:
        known = _options(command, name)
        if rest[-1] in known and known[rest[-1]].type != "bool":
            return _values(command, name, rest[-1], word)
    if word.startswith("-"):
        return _starting(word, _flags(command, name))
    return _starting(word, _positional(command, rest))


def _starting(word: str, among: Answer) -> Answer:
    return ((choice, help) for choice, help in among if choice.startswith(word))


def _commands() -> Answer:
    yield from ((name, what) for name, (_, what) in COMMANDS.items())
    yield from (("--help", "all commands"), ("--version", "which version this is"))


def _positional(command: str, rest: list[str]) -> Answer:
    """The first word after a command, where it is a name."""
    if any(not word.startswith("-") for word in rest):
        return
    if command in KIND_OF:
        yield from _methods(KIND_OF[command])
    elif command == "explain":
        for kind in catalog.KINDS:
            yield from _methods(kind)
    elif command == "ls":
        yield from ((each, "") for each in (*catalog.KINDS, *LISTS))
    elif command == "completion":
        yield from ((shell, "") for shell in SCRIPTS)
    elif command == "study":
        folders = sorted(path.parent.name for path in Path("studies").glob("*/study.py"))
        yield from ((folder.replace("_", "-"), "") for folder in folders)


def _methods(kind: str) -> Answer:
    return ((entry.name, entry.summary) for entry in catalog.entries(kind).values())


def _flags(command: str, name: str) -> Answer:
    for option, field in _options(command, name).items():
        yield option, field.help
        if field.type == "bool":
            yield f"--no-{option[2:]}", ""
    yield "--help", "what there is to say"


def _options(command: str, name: str) -> dict[str, Field]:
    """The options of a command and of the method named, as its files say."""
    if command in BY_HAND:
        return {o: Field(o, "bool" if o == "--json" else "str", "", "") for o in BY_HAND[command]}
    found = (*fields_of_method(command, name), *fields_of_command(command))
    return {flag_of(field): field for field in found if not is_placed(field)}


def _values(command: str, name: str, option: str, word: str) -> Answer:
    """What can stand after an option."""
    field = _options(command, name).get(option)
    if field is None or field.type == "bool":
        return iter(())
    if choices := choices_of(field.type):
        return _starting(word, ((choice, "") for choice in choices))
    if option == "--attacks":
        head, comma, last = word.rpartition(",")
        return ((f"{head}{comma}{n}", h) for n, h in _starting(last, _methods("attacks")))
    if (command, option) == ("forget", "--method"):
        own = (("auto", "the cheapest that passes"),)
        return _starting(word, iter([*own, *_methods("edits")]))
    return _starting(word, KNOWN.get(option, lambda: iter(()))())


def _data() -> Answer:
    from engram.data import describe_sources

    return ((source.name, source.summary) for source in describe_sources())


def _families() -> Answer:
    from engram import families

    return ((name, "") for name in families.names())


KNOWN: dict[str, Callable[[], Answer]] = {
    "--battery": lambda: ((name, "") for name in BATTERIES),
    "--device": lambda: ((name, "") for name in DEVICES),
    "--budget": lambda: ((name, "") for name in BUDGETS),
    "--long": lambda: ((name, "") for name in LONG),
    "--family": _families,
    "--data": _data,
}
"""Options that mean the same in every command."""
