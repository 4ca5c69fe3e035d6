"""Pages from files of the repository, and the how-to guides by what lies in their folder."""

import re
from pathlib import Path

MOVED = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "studies/README.md": "evidence/index.md",
    "README.md": "index.md",
}
"""Where the site has what a file of the repository links to."""


def pages(root: Path, docs: Path) -> dict[str, str]:
    """The files of the repository that are pages of the site too."""
    made = {
        site: _rewritten((root / name).read_text(encoding="utf-8"))
        for name, site in MOVED.items()
        if name in ("CONTRIBUTING.md", "CHANGELOG.md")
    }
    guides = _guides(docs)
    if guides and not (docs / "how-to" / "index.md").is_file():
        lines = "\n".join(f"- [{title}]({path.name})" for path, title in guides)
        made["how-to/index.md"] = (
            "# How-to guides\n\nEach answers one question, by commands that the project's tests "
            f"run too.\n\n{lines}\n"
        )
    return made


def how_to_nav(docs: Path) -> list[object]:
    """The guides by their titles."""
    listed: list[object] = [{title: f"how-to/{path.name}"} for path, title in _guides(docs)]
    return ["how-to/index.md", *listed] if listed else []


def _guides(docs: Path) -> list[tuple[Path, str]]:
    paths = sorted(p for p in (docs / "how-to").glob("*.md") if p.name != "index.md")
    return [(path, _title(path)) for path in paths]


def _title(path: Path) -> str:
    first = re.search(r"^# +(.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return first.group(1).replace("`", "") if first else path.stem.replace("-", " ").capitalize()


def _rewritten(text: str) -> str:
    """The same text with its links turned to the site's pages."""

    def turned(match: re.Match[str]) -> str:
        where = match.group(2)
        study = re.fullmatch(r"studies/(\w+)/README\.md", where)
        if study:
            where = f"evidence/{study.group(1).replace('_', '-')}.md"
        where = MOVED.get(where, where.removeprefix("docs/"))
        return f"{match.group(1)}({where})"

    return re.sub(r"(\[[^\]]*\])\(([^)\s:]+)\)", turned, text)
