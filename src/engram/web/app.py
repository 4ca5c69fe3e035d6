"""The application: which address shows which page."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from engram.core.errors import EngramError
from engram.store import questions
from engram.web import files, pages
from engram.web.guard import Door, Guard
from engram.web.templates import render
from engram.web.theme import CHOICES, COOKIE

LONGEST = 4096
"""Characters of an address that is answered."""
HERE = re.compile(r"/(?![/\\])[^\\\x00-\x20]*")
"""An address of these pages: a browser reads `//x` and `/\\x` as one of another host."""
WRONG = {
    404: ("Not found", "Was it deleted, or moved? `engram reindex` brings the lists up to date."),
    413: ("Too large to be shown", "Open the file itself, in the folder of the run."),
    414: ("The address is too long", "Look for less text, or compare fewer runs at once."),
}
"""Title and remedy of a page that is not what was asked for."""
Page = Callable[[Path, Any], tuple[str, dict[str, Any]]]
PAGES: dict[str, Page] = {
    "/": pages.home,
    "/runs": pages.runs,
    "/targets": pages.targets,
    "/run/{folder:path}": pages.run,
    "/target/{folder:path}": pages.target,
    "/lineage": pages.lineage,
    "/compare": pages.compare,
    "/record": pages.record,
    "/deletions": pages.deletions,
    "/running": pages.running_now,
}


def create_app(root: Path, door: Door | None = None) -> Guard:
    """The application over a store, behind its guard.

    Args:
        root: The store; its index is made if there is none.
        door: What is let in; by default only what asks this machine under its own name.

    Raises:
        EngramError: There is no store.
    """
    questions.ready(root)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    ways = ["GET", "HEAD"]
    for path, page in PAGES.items():
        app.add_api_route(
            path, partial(_show, root, page), methods=ways, response_class=HTMLResponse
        )
    app.add_api_route("/file/{name}/{folder:path}", partial(_file, root), methods=ways)
    app.add_api_route("/static/{name}", _static, methods=ways)
    app.add_api_route("/theme", _theme, methods=ways)
    app.add_exception_handler(HTTPException, _wrong)
    app.add_exception_handler(EngramError, _mistake)
    return Guard(app, door or Door("127.0.0.1"))


async def _show(root: Path, page: Page, request: Request) -> Response:
    if len(str(request.url)) > LONGEST:
        raise HTTPException(414, "This address is too long.")
    # Pages read the disk: not where other answers wait for it.
    return await run_in_threadpool(_made, root, page, request)


def _made(root: Path, page: Page, request: Request) -> Response:
    with _told():
        template, values = page(root, request)
        return HTMLResponse(render(template, request, **values))


@contextmanager
def _told() -> Iterator[None]:
    """Turn a file that may not be read, or that went while it was, into what a page can say."""
    try:
        yield
    except OSError as problem:
        raise EngramError(
            f"{problem.filename or 'the store'} cannot be read ({problem.strerror})",
            hint="may you read the store, and is its disk still there? Then load this page again",
        ) from None


async def _file(root: Path, name: str, folder: str) -> Response:
    return await run_in_threadpool(_stored, root, folder, name)


def _stored(root: Path, folder: str, name: str) -> Response:
    with _told():
        return files.stored(root, folder, name)


async def _static(name: str) -> Response:
    return files.own(name)


async def _theme(request: Request) -> Response:
    """Remember light or dark in a cookie, for browsers without scripts."""
    wanted, back = request.query_params.get("to", ""), request.query_params.get("back", "/")
    answer = RedirectResponse(back if HERE.fullmatch(back) else "/", status_code=303)
    if wanted in CHOICES:
        answer.set_cookie(COOKIE, wanted, max_age=365 * 86400, samesite="strict")
    return answer


async def _wrong(request: Request, problem: Exception) -> Response:
    status = getattr(problem, "status_code", 500)
    detail = str(getattr(problem, "detail", ""))
    fact = "There is no such page." if status == 404 and detail == "Not Found" else detail
    title, hint = WRONG.get(status, ("This cannot be shown", "Is the address right?"))
    return HTMLResponse(
        render("wrong.html.j2", request, title=title, fact=fact, hint=hint, here=""), status
    )


async def _mistake(request: Request, problem: Exception) -> Response:
    """A folder or an index that is damaged: what the command line would say."""
    hint = getattr(problem, "hint", "")
    page = render(
        "wrong.html.j2",
        request,
        title="This cannot be shown",
        fact=str(problem),
        hint=hint,
        here="",
    )
    return HTMLResponse(page, 500)
