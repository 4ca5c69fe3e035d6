"""`engram doctor` and `engram prune`: what is installed and kept, and what of it can go."""

import os
import platform
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engram import __version__, extras
from engram.cli.output import tell
from engram.cli.parse import Common, Printed, parse
from engram.cli.plain import plain
from engram.core import EngramError
from engram.store.upkeep import dispensable, shares, unreadable
from engram.store.upkeep import prune as delete

SHOWN = 10
"""Folders that cannot be read which are told one by one."""
UNITS = ("bytes", "kB", "MB", "GB", "TB")


def doctor(args: list[str]) -> int:
    """`engram doctor`: what is installed, which device there is, what the store takes."""
    try:
        options = parse("engram doctor", args, Common).options
    except Printed:
        return 0
    found = {
        "engram": __version__,
        "python": platform.python_version(),
        "packages": packages(),
        "device": devices(),
        "store": store(options.root),
        "data": data_folder(),
    }
    tell(found, _lines(found), options.json)
    return 0


def packages() -> dict[str, dict[str, str]]:
    """By extra ("" for what Engram cannot do without): each package and its version, or ""."""
    known = extras.packages().items()
    return {extra: {name: extras.version_of(name) for name in names} for extra, names in known}


def devices() -> dict[str, Any]:
    """Where models can be computed."""
    import torch

    cuda = torch.cuda.is_available()
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"chosen": "cuda" if cuda else "cpu", "cuda": names if cuda else [],
            "cpus": os.cpu_count() or 1, "threads": torch.get_num_threads()}  # fmt: skip


def store(root: Path) -> dict[str, Any]:
    """Where runs are kept, what they take, and what is free."""
    place = root.absolute()
    while not place.exists():
        place = place.parent
    if root.exists() and not root.is_dir():
        raise EngramError(f"{root} is a file, not a store", hint="name a folder with --store")
    kept = [asdict(share) for share in shares(root)]
    lost = [{"path": str(path), "why": why} for path, why in unreadable(root)]
    return {"place": str(root), "exists": root.is_dir(), "holds": kept, "unreadable": lost,
            "size": sum(share["size"] for share in kept),
            "free": shutil.disk_usage(place).free}  # fmt: skip


def data_folder() -> dict[str, Any]:
    """Where named data sets are looked for, and which of them are there."""
    from engram.data.named import HOME, PLACE, folder_of

    place = os.environ.get(PLACE, "")
    names = sorted(path.stem.replace("_", "-") for path in HOME.glob("[!_]*.py"))
    there = [name for name in names if place and (Path(place) / folder_of(name)).is_dir()]
    return {"place": place, "there": there, "known": len(names)}


def _lines(found: dict[str, Any]) -> list[str]:
    device, kept, data = found["device"], found["store"], found["data"]
    lines = [f"engram {found['engram']}, Python {found['python']}", "", "installed:"]
    for extra, packages in found["packages"].items():
        missing = [name for name, which in packages.items() if not which]
        there = ", ".join(f"{name} {which}" for name, which in packages.items() if which)
        title = f"engram[{extra}]" if extra else "engram"
        state = f"missing {', '.join(missing)}: {extras.remedy(extra)}" if missing else "complete"
        lines.append(f"  {title}: {state}" + (f" ({there})" if there else ""))
    cuda = ", ".join(device["cuda"]) or "no CUDA device"
    lines += ["", f"device: {device['chosen']} ({cuda}; {device['cpus']} processors, "
              f"{device['threads']} threads)", ""]  # fmt: skip
    made = "" if kept["exists"] else ", made by the first run"
    lines.append(f"store: {kept['place']} ({size(kept['size'])}{made}; {size(kept['free'])} free)")
    lines += [f"  {s['what']}: {s['count']:,}, {size(s['size'])}" for s in kept["holds"]]
    lines += [f"  {plain(s['path'], keep='')}: {plain(s['why'], keep='')}"
              for s in kept["unreadable"][:SHOWN]]  # fmt: skip
    if (more := len(kept["unreadable"]) - SHOWN) > 0:
        lines.append(f"  and {more:,} more that cannot be read")
    there = f"{len(data['there'])} of {data['known']} named sets" if data["place"] else "not set"
    lines += ["", f"ENGRAM_DATA: {data['place']} ({there})" if data["place"] else
              "ENGRAM_DATA: not set, so data sets by name are not found"]  # fmt: skip
    return lines


def size(count: int) -> str:
    """Bytes in words: 1,234,567 is 1.2 MB."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:,.0f} {UNITS[unit]}" if not unit else f"{value:,.1f} {UNITS[unit]}"


@dataclass(frozen=True)
class PruneOptions(Common):
    """Options of `engram prune`."""

    cached: bool = False
    """Also the cached answers of models: they are asked for again when they are needed."""
    delete: bool = False
    """Delete what is listed. Without it nothing is touched."""


def prune(args: list[str]) -> int:
    """`engram prune [--cached] [--delete]`: what of the store can go; a dry run by default."""
    try:
        options = parse("engram prune", args, PruneOptions).options
    except Printed:
        return 0
    things = dispensable(options.root, cached=options.cached)
    total = sum(thing.size for thing in things)
    if options.delete:
        delete(options.root, things)
    listed = [{"path": str(t.path), "why": t.why, "size": t.size} for t in things]
    done = "deleted" if options.delete else "can go"
    lines = [f"{plain(t.path, keep='')}: {t.why}, {size(t.size)}" for t in things]
    plural = "thing" if len(things) == 1 else "things"
    lines.append(f"{len(things):,} {plural} {done}, {size(total)}")
    if things and not options.delete:
        lines.append("nothing was touched; --delete deletes them")
    tell({"store": str(options.root), "deleted": options.delete, "size": total, "things": listed},
         lines, options.json)  # fmt: skip
    return 0
