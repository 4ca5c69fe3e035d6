"""What the tests of the web application share: a client, links, and text as a reader sees it."""

import html
import re

import pytest


def opened(root, door=None, **more):
    """A client of the application over a store."""
    pytest.importorskip("fastapi", reason="the extra web is not installed")
    from starlette.testclient import TestClient

    from engram.web import create_app

    return TestClient(create_app(root, door), base_url="http://127.0.0.1:8765", **more)


def links(page, start="/"):
    """Addresses of a page's links that begin so, in order, each once."""
    found = (html.unescape(at) for at in re.findall(r'<a [^>]*?href="(/[^"]*)"', page))
    return list(dict.fromkeys(at.partition("#")[0] for at in found if at.startswith(start)))


def text_of(page):
    """The words of a page, without its tags."""
    bare = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", bare)).split())
