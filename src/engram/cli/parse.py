"""Options and method fields from the command line and a configuration file, by tyro."""

import io
import json
import re
import sys
import tomllib
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass, fields, make_dataclass
from pathlib import Path
from typing import Any

import tyro

from engram.core import EngramError, nearest
from engram.store import default_root

LARGEST_CONFIG = 2**20
LARGEST_LIST = 64 * 2**20


@dataclass(frozen=True)
class Common:
    """Options of every command."""

    seed: int = 0
    """Root of all random streams."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, ..."""
    store: Path | None = None
    """Where runs are kept; by default the folder in ENGRAM_RUNS, else ./runs."""
    json: bool = False
    """Print one JSON document on standard output, and nothing else there."""
    config: Path | None = None
    """Read options from this TOML or JSON file; the command line wins over it."""
    print_config: bool = False
    """Print the options in force as TOML, and stop."""

    @property
    def root(self) -> Path:
        """The store."""
        return self.store or default_root()


class Printed(Exception):  # noqa: N818 - the wish was granted; nothing is wrong
    """`--print-config` has been answered."""


def parse(prog: str, args: list[str], options: type, method: type | None = None) -> Any:
    """Parse options, and a method's fields if there is one, all on one level.

    Returns:
        An object with `.options` and `.method`.

    Raises:
        EngramError: An unknown option, a value of the wrong kind, a bad configuration file.
        Printed: `--print-config` was asked for and answered.
    """
    parts: list[tuple[str, Any]] = [("options", options)]
    if method is not None:
        parts.append(("method", method))
    job = make_dataclass("Job", parts)
    flags = _flags(options) | (_flags(method) if method else {})
    _check_once(args, flags)
    args = [*args, *_from_config(args, flags)]
    _check_known(args, flags)
    parsed = _tyro(prog, args, job, method)
    if parsed.options.print_config:
        _print(parsed, as_json=parsed.options.json)
        raise Printed
    return parsed


def _tyro(prog: str, args: list[str], job: type, method: type | None) -> Any:
    if any(a in ("-h", "--help") for a in args):
        print((method or job).__doc__.strip() if method else "", end="\n" if method else "")
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(
                job,
                prog=prog,
                args=args,
                description="",
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        fact, hint = _plain(said.getvalue())
        raise EngramError(fact, hint=hint or f"see `{prog} --help`") from None


def _plain(box: str) -> tuple[str, str]:
    """Tyro's message without its frame, as a fact."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [
        re.sub(r"^[\u2502|]|[\u2502|]$", "", line.strip()).strip() for line in text.splitlines()
    ]
    if len(lines) > 1 and re.fullmatch("-+", lines[1]):  # a frame in ASCII: its title, a rule
        lines = lines[2:]
    kept = [line for line in lines if line and not re.match(r"^([\u2500-\u257f\s]|-+$)", line)]
    kept = [line for line in kept if not line.startswith("For full helptext")]
    said = re.sub(r"^Error parsing (?=-)", "", " ".join(kept[:4]).partition("Argument helptext")[0])
    fact = said.strip().rstrip(":")
    return fact[:1].lower() + fact[1:] if fact else "the options cannot be read", ""


def _flags(cls: type) -> dict[str, Any]:
    return {f.name.replace("_", "-"): f for f in fields(cls)}


def _check_known(args: list[str], flags: dict[str, Any]) -> None:
    known = {f"--{name}" for name in flags}
    switches = {f"--no-{name}" for name, f in flags.items() if f.type in (bool, "bool")}
    for arg in args:
        if not arg.startswith("--") or arg == "--":
            continue
        name = arg.partition("=")[0].replace("_", "-")
        if name not in known | switches | {"--help"}:
            raise EngramError(
                f"there is no option {name}",
                hint=nearest(name, sorted(known), "--help lists the options"),
            )


def _check_once(args: list[str], flags: dict[str, Any]) -> None:
    """Refuse an option with two values: tyro would take the last one, and drop the first unsaid."""
    given: dict[str, str] = {}
    for arg, following in zip(args, [*args, ""][1:], strict=True):
        if not arg.startswith("--") or arg == "--":
            continue
        name, equals, value = arg.partition("=")
        name, value = name.replace("_", "-"), value if equals else following
        if (field := flags.get(name[2:])) and field.type in (bool, "bool"):
            continue  # a switch, which has none
        if given.setdefault(name, value) != value and not value.startswith("--"):
            raise EngramError(
                f"{name} is given twice: {given[name]} and {value}",
                hint="give it once; where it takes several values, put commas between them",
            )


def _from_config(args: list[str], flags: dict[str, Any]) -> list[str]:
    """The configuration file's settings as arguments, without those the command line sets."""
    path = _config_path(args)
    if path is None:
        return []
    settings = read_config(path)
    given = {a.partition("=")[0].replace("_", "-") for a in args if a.startswith("--")}
    made: list[str] = []
    for key, value in settings.items():
        name = key.replace("_", "-")
        if name not in flags or name in ("config", "print-config"):
            raise EngramError(
                f"{path} sets {key!r}, which is not an option here",
                hint=nearest(name, flags, "--print-config shows the options in force"),
            )
        if f"--{name}" not in given and f"--no-{name}" not in given:
            joined = flags[name].type in (str, "str") and isinstance(value, list)
            value = ",".join(map(str, value)) if joined else value
            made += _as_arguments(name, value, path)
    return made


def _config_path(args: list[str]) -> Path | None:
    for place, arg in enumerate(args):
        if arg == "--config":
            if place + 1 == len(args):
                raise EngramError("--config needs a file", hint="--config options.toml")
            return Path(args[place + 1])
        if arg.startswith("--config="):
            return Path(arg.partition("=")[2])
    return None


def _as_arguments(name: str, value: Any, path: Path) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)] if value else []
    if isinstance(value, (int, float, str)):
        return [f"--{name}", str(value)]
    raise EngramError(
        f"{path} sets {name!r} to a {type(value).__name__}",
        hint="options are numbers, texts, true or false, or lists of them",
    )


def read_config(path: Path) -> dict[str, Any]:
    """Read a TOML or JSON file from outside; size-limited, nothing in it is run."""
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise EngramError(
                f"{path} is larger than {LARGEST_CONFIG:,} bytes",
                hint="a configuration is a few lines of TOML",
            )
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as problem:
        raise EngramError(
            f"{path} cannot be read ({problem.strerror})", hint="is the path right?"
        ) from None
    except (ValueError, RecursionError) as problem:
        raise EngramError(
            f"{path} is neither valid TOML nor JSON ({problem})",
            hint="--print-config prints one to start from",
        ) from None
    if not isinstance(found, dict):
        raise EngramError(f"{path} holds a {type(found).__name__}, not named settings")
    return found


def _print(parsed: Any, as_json: bool) -> None:
    own = ("config", "print_config", "json", "target")
    settings = {k: v for k, v in asdict(parsed.options).items() if k not in own}
    if hasattr(parsed, "method"):
        settings |= asdict(parsed.method)
    shown = {k: _setting(v) for k, v in settings.items() if v is not None and v != ()}
    if as_json:
        print(json.dumps(shown, indent=2))
    else:
        sys.stdout.write("".join(f"{k} = {json.dumps(v)}\n" for k, v in shown.items()))


def _setting(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_setting(v) for v in value]
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def listed(values: str) -> tuple[str, ...]:
    """The lines of a file, where `values` names one, else what stands between commas.

    Raises:
        EngramError: The file is not text, or too large.
    """
    path = Path(values)
    if "," in values or not path.is_file():
        return split_list(values)
    try:
        if path.stat().st_size > LARGEST_LIST:
            raise EngramError(f"{path} is larger than {LARGEST_LIST} bytes", hint="is it a list?")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise EngramError(
            f"{path} cannot be read as text ({problem})", hint="write one a line, in UTF-8"
        ) from None
    if not (found := tuple(line.strip() for line in lines if line.strip())):
        raise EngramError(f"{path} is empty", hint="write one a line")
    return found


def split_list(values: str) -> tuple[str, ...]:
    """`"a, b"` -> `("a", "b")`."""
    return tuple(value.strip() for value in values.split(",") if value.strip())
