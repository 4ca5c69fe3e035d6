"""The command line: a small lazy dispatcher. Exit 0 fine, 1 over policy, 2 the user's mistake."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from io import TextIOWrapper

from engram import __version__
from engram.cli.plain import plain
from engram.core.errors import EngramError, nearest

COMMANDS = {
    "demo": ("demo", "the whole story on embedded data; ends with the report's path"),
    "ls": ("listing", "what there is: methods, families, data, targets, runs"),
    "explain": ("listing", "one method's page: idea, formula, fields, paper"),
    "transform": ("make", "Split -> Split: deduplicate, plant canaries, partition, ..."),
    "train": ("make", "Split -> Target: pre-train, fine-tune, fit"),
    "edit": ("make", "Target -> Target: unlearn, told what to keep and what to forget"),
    "audit": ("judge", "which records does a model give away? Also from bare scores"),
    "compare": ("compare", "several targets in one table: which defence is worth its price?"),
    "forget": ("forget", "answer a deletion request, with evidence"),
    "measure": ("judge", "one measure on a target: perplexity, extraction, ..."),
    "check": ("judge", "compare findings with a policy; exit 1 where one is over"),
    "study": ("study", "a paper's claims, measured over seeds, with a verdict on each"),
    "report": ("keep", "write a finished run's report again"),
    "verify": ("keep", "is the deletion ledger whole, and a certificate in it?"),
    "reindex": ("keep", "make the index again from the run folders"),
    "view": ("view", "look at the store in the browser, read-only"),
    "doctor": ("care", "what is installed, which device there is, what the store takes"),
    "prune": ("care", "what of the store can go; a dry run unless told otherwise"),
    "completion": ("completion", "a script that completes all of this in bash, zsh or fish"),
}

OWN_HELP = ("listing", "completion")
"""Modules whose commands say themselves what they take."""

HELP = """engram {version}: a lab for what models take from their data

usage: engram COMMAND ... (engram COMMAND --help says more)

{commands}

nearly everywhere: --json (one JSON document on standard output), --config FILE,
            --print-config, --seed N, --device auto|cpu|cuda, --store DIR
exit code:  0 fine, 1 a finding is over policy, 2 a mistake that you can mend

tab key:    engram completion --help

new here? engram demo"""


INTERRUPTED = ("interrupted", "the same command goes on where it stopped")


def main(argv: list[str] | None = None) -> None:
    """Run the command line; turn the user's mistakes into two calm lines."""
    args = sys.argv[1:] if argv is None else argv
    _replace_what_is_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # what a terminal cannot show is no reason to fail
            stream.reconfigure(errors="replace")
    try:
        code = dispatch(args)
        sys.stdout.flush()
    except EngramError as error:
        code = _complain(str(error), error.hint, as_json="--json" in args)
    except KeyboardInterrupt:
        with suppress(ValueError):  # not the main thread; else a second one ends it at once
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        code = _complain(*INTERRUPTED, code=130)
    except MemoryError:
        code = _complain("out of memory", "try a smaller --batch-tokens or --batch-size")
    except RuntimeError as problem:
        if not _out_of_memory(problem):
            raise
        code = _complain("out of memory", "try a smaller model, --batch-tokens or --batch-size")
    except BrokenPipeError:  # the reader (head, less) has gone: not a mistake
        code = 0
    except OSError as problem:
        where = f" {problem.filename}" if problem.filename else ""
        code = _complain(
            f"the system refused:{where} {problem.strerror or problem}",
            "are the paths right, and may you read and write there?",
            as_json="--json" in args,
        )
    _let_go_of_the_output()
    raise SystemExit(code)


def dispatch(args: list[str]) -> int:
    """Find the command's module, import it, and run it; returns the exit code."""
    if args[:1] == ["help"] and args[1:]:
        args = [args[1], "--help"]
    if not args or args[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        lines = (f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items())
        print(HELP.format(version=__version__, commands="\n".join(lines)))
        return 0
    if args[0] in ("-V", "--version"):
        print(f"engram {__version__}")
        return 0
    if args[0] not in COMMANDS:
        raise EngramError(
            f"there is no command called {args[0]!r}",
            hint=nearest(args[0], (*COMMANDS, "--help", "--version"), "`engram --help` lists them"),
        )
    _check_names(args)
    if {"-h", "--help"} & set(args[1:]) and COMMANDS[args[0]][0] not in OWN_HELP:
        from engram.cli.help import help_of

        print(help_of(args[0], args[1:]))
        return 0
    with _ending_at_once():
        module = import_module(f"engram.cli.{COMMANDS[args[0]][0]}")
    return int(getattr(module, args[0])(args[1:]) or 0)


@contextmanager
def _ending_at_once() -> Iterator[None]:
    """End at the first interrupt, without an exception: libraries that load abort at one."""

    def end(*_: object) -> None:
        os._exit(_complain(*INTERRUPTED, code=130))

    try:
        before = signal.signal(signal.SIGINT, end)
    except ValueError:  # not the main thread, which alone is told
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _check_names(args: list[str]) -> None:
    """Refuse names that this locale has no letters for, and a folder that is gone.

    Libraries that open a model's files abort at both, or say something else.
    """
    try:
        here = os.getcwd()
    except OSError:
        raise EngramError(
            "the folder that you are in has been deleted", hint="go to another, or make it again"
        ) from None
    encoding = sys.getfilesystemencoding()
    if encoding == "utf-8":
        return
    for name in (here, *args):
        if any("\udc80" <= character <= "\udcff" for character in name):
            raise EngramError(
                f"the locale here ({encoding}) has no letters for {os.fsencode(name)!r}",
                hint="set PYTHONUTF8=1, or LC_ALL=C.UTF-8, and give the same command again",
            )


def _replace_what_is_closed() -> None:
    """Put nothing in the place of standard streams that the caller closed (`engram ls >&-`).

    Else the next file that is opened takes the number of one, and what is meant for people is
    written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # which takes the lowest number that is free
            mode = "w" if number else "r"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _let_go_of_the_output() -> None:
    """Drop what cannot be written, so that Python does not try again, and complain, at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _out_of_memory(problem: RuntimeError) -> bool:
    """Torch's ways of saying that there was not enough memory."""
    said = str(problem).lower()
    return "out of memory" in said or "can't allocate memory" in said


def _complain(fact: str, hint: str, code: int = 2, as_json: bool = False) -> int:
    with suppress(OSError):  # nobody is there to read it
        print(f"error: {plain(fact)}", file=sys.stderr)
        if hint:
            print(f"  hint: {plain(hint)}", file=sys.stderr)
    with suppress(OSError):
        if as_json:
            print(json.dumps({"error": fact, "hint": hint}), flush=True)
    return code


if __name__ == "__main__":
    main()
