"""Pages from files of the repository, and the how-to guides by what lies in their folder."""

import posixpath
import re
from pathlib import Path

DOCS = "docs"
MOVED = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "studies/README.md": "evidence/index.md",
    "README.md": "index.md",
}
"""Where the site has what a file of the repository links to."""
ORDER = ("audit", "compare", "stop", "train", "answer", "delete", "protect", "scan", "run", "add")
"""By their first word, guides stand in the order in which people need them."""


def pages(root: Path, docs: Path) -> dict[str, str]:
    """The files of the repository that are pages of the site too."""
    made = {
        site: turned((root / name).read_text(encoding="utf-8"), name)
        for name, site in MOVED.items()
        if name in ("CONTRIBUTING.md", "CHANGELOG.md")
    }
    guides = _guides(docs)
    if guides and not (docs / "how-to" / "index.md").is_file():
        lines = "\n".join(f"- [{title}]({path.name}): {_aim(path)}" for path, title in guides)
        made["how-to/index.md"] = (
            "---\ndescription: Guides for single tasks, each with commands that tests run\n---\n\n"
            "# How-to guides\n\nEach answers one question, by commands that the project's tests "
            f"run too.\n\n{lines}\n\nFor a first look begin with the "
            "[tutorial](../tutorial.md).\n"
        )
    return made


def how_to_nav(docs: Path) -> list[object]:
    """The guides by their titles."""
    listed: list[object] = [{title: f"how-to/{path.name}"} for path, title in _guides(docs)]
    return ["how-to/index.md", *listed] if listed else []


def _guides(docs: Path) -> list[tuple[Path, str]]:
    paths = (p for p in (docs / "how-to").glob("*.md") if p.name != "index.md")
    paths = sorted(paths, key=lambda path: (_rank(path.stem.partition("-")[0]), path.stem))
    return [(path, _title(path)) for path in paths]


def _rank(verb: str) -> int:
    return ORDER.index(verb) if verb in ORDER else len(ORDER)


def _aim(path: Path) -> str:
    """A guide's first paragraph, as the end of a sentence: what it is for."""
    after = path.read_text(encoding="utf-8").partition("\n# ")[2] or path.read_text("utf-8")
    told = " ".join(after.split("\n\n")[1].split())
    return told[:1].lower() + told[1:]


def _title(path: Path) -> str:
    first = re.search(r"^# +(.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return first.group(1).replace("`", "") if first else path.stem.replace("-", " ").capitalize()


def turned(text: str, place: str) -> str:
    """The same text with links to files of the repository turned to the site's pages.

    Args:
        text: Markdown.
        place: The file that it is from, beside the repository's root: `docs/how-to/x.md`.
    """
    folder = posixpath.dirname(place)
    home = posixpath.relpath(folder, DOCS) if folder else "."

    def link(match: re.Match[str]) -> str:
        where, mark, anchor = match.group(2).partition("#")
        found = _page(posixpath.normpath(posixpath.join(folder, where))) if where else ""
        return (
            f"{match.group(1)}({posixpath.relpath(found, home) if found else where}{mark}{anchor})"
        )

    return re.sub(r"(\[[^\]]*\])\(([^)\s:]+)\)", link, text)


def _page(path: str) -> str:
    """The site's page of a file of the repository; "" where it has none."""
    study = re.fullmatch(r"studies/(\w+)/README\.md", path)
    if study:
        return f"evidence/{study.group(1).replace('_', '-')}.md"
    return MOVED.get(path) or (path.removeprefix(f"{DOCS}/") if path.startswith(f"{DOCS}/") else "")
