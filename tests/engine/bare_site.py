"""A folder of installed packages in which some are missing, as if nobody had installed them."""

import os
import re
import subprocess
import sys
import sysconfig
from importlib.metadata import packages_distributions
from pathlib import Path


def plain(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def bare_site(folder: Path, without: set[str]) -> Path:
    """Links to all that is installed here but Engram and the packages `without`."""
    gone = {plain(name) for name in without}
    held = packages_distributions()
    for source in Path(sysconfig.get_paths()["purelib"]).iterdir():
        top = source.name.partition(".")[0]
        dists = {plain(dist) for dist in held.get(top, ())}
        if source.suffix == ".dist-info":
            dists = {plain(source.name.partition("-")[0])}
        ours = plain(source.name).startswith(("engram", "--editable", "-engram", "-editable"))
        if ours or source.suffix == ".pth" or (dists and dists <= gone):
            continue
        (folder / source.name).symlink_to(source)
    return folder


def python(*args: object, path: list[Path], cwd: Path, **env: str) -> subprocess.CompletedProcess:
    """Run Python with these folders of packages and no other, without the network."""
    places = os.pathsep.join(map(str, path))
    offline = {"HF_HUB_OFFLINE": "1", "http_proxy": "http://127.0.0.1:9"}
    return subprocess.run(
        [sys.executable, "-S", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **offline, "PYTHONPATH": places, **env},
    )
