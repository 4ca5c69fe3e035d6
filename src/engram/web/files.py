"""Files that are served as they are: our own few, and the pages of a run, which may do nothing."""

import base64
import re
from hashlib import sha256
from pathlib import Path

from fastapi.responses import Response
from starlette.exceptions import HTTPException

from engram.store import questions
from engram.web.theme import STATIC, style

SERVED = ("report.html", "certificate.html")
LARGEST = 16 * 2**20
"""Bytes of a page of a run that is served."""
_STYLE = re.compile(rb"<style>(.*?)</style>", re.DOTALL)
_OWN = {"view.js": "text/javascript", "htmx.min.js": "text/javascript",
        "icon.svg": "image/svg+xml", "htmx.LICENSE.txt": "text/plain"}  # fmt: skip


def own(name: str) -> Response:
    """One of the files that come with the pages."""
    if name == "view.css":
        return Response(style(), media_type="text/css")
    if name not in _OWN:
        raise HTTPException(404)
    return Response((STATIC / name).read_bytes(), media_type=_OWN[name])


def present(root: Path, folder: str) -> tuple[str, ...]:
    """Which of the served pages a run has."""
    return tuple(name for name in SERVED if (root / folder / name).is_file())


def stored(root: Path, folder: str, name: str) -> Response:
    """A page of a run that the index knows.

    It is a page from outside: it may run nothing, load nothing, send nothing, and is looked at in
    a sandbox; only the style that it brings is allowed.
    """
    if name not in SERVED or questions.item(root, folder) is None:
        raise HTTPException(404)
    place = root.resolve() / folder / name
    if place.resolve() != place or not place.is_file():  # no link is followed
        raise HTTPException(404)
    if place.stat().st_size > LARGEST:
        raise HTTPException(413, f"This page has more than {LARGEST:,} bytes.")
    page = place.read_bytes()
    found = _STYLE.search(page)
    digest = base64.b64encode(sha256(found.group(1)).digest()).decode() if found else ""
    allowed = f"'sha256-{digest}'" if digest else "'none'"
    policy = (
        f"default-src 'none'; style-src {allowed}; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; sandbox allow-popups allow-top-navigation-by-user-activation"
    )
    return Response(page, media_type="text/html", headers={"content-security-policy": policy})
