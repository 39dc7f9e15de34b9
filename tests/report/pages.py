"""A page as the parser of the standard library sees it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path


@dataclass
class Page(HTMLParser):
    """Tags with their attributes, and all text outside styles and scripts."""

    path: Path
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._inside = ""
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("style", "script"):
            self.text += data

    def links(self) -> list[str]:
        """Every address that the page names."""
        return [value for _, attrs in self.tags for key in ("src", "href") if (value := attrs.get(key)) is not None]


def tables(page: Path, section: str) -> list[list[list[str]]]:
    """Tables of one section, row by row, heading first; an interval follows its number without a space."""
    (inside,) = re.findall(rf'<section id="{section}">(.*?)</section>', page.read_text(encoding="utf-8"), re.DOTALL)
    return [
        [
            [
                " ".join(re.sub("<.*?>", "", cell).split())
                for cell in re.findall("<t[hd].*?>(.*?)</t[hd]>", row, re.DOTALL)
            ]
            for row in re.findall("<tr.*?>(.*?)</tr>", table, re.DOTALL)
        ]
        for table in re.findall("<table.*?>(.*?)</table>", inside, re.DOTALL)
    ]


def pages(report: Path) -> list[Page]:
    return [Page(path) for path in sorted(report.rglob("*.html"))]
