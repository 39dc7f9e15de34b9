"""One source file as syntax tree and text: which bytes a node takes, and the file with some of them replaced."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Source:
    """A file's text. Positions are in UTF-8 bytes, as the syntax tree's are."""

    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def _data(self) -> bytes:
        return self.text.encode()

    @cached_property
    def _line_starts(self) -> list[int]:
        starts = [0]
        for line in self._data.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        return starts

    def span(self, node: ast.AST) -> tuple[int, int]:
        """First byte of a node, and one past its last."""
        lines = self._line_starts
        return (
            lines[node.lineno - 1] + node.col_offset,  # type: ignore[attr-defined]
            lines[node.end_lineno - 1] + node.end_col_offset,  # type: ignore[attr-defined]
        )

    def of(self, node: ast.AST) -> str:
        """The text of a node."""
        return self.slice(*self.span(node))

    def slice(self, start: int, end: int) -> str:
        return self._data[start:end].decode()

    def replaced(self, start: int, end: int, by: str) -> str:
        """The whole text with bytes `start` to `end` replaced."""
        return (self._data[:start] + by.encode() + self._data[end:]).decode()

    def lines(self, start: int, end: int) -> tuple[int, int]:
        """First line that holds these bytes, and one past the last, from 0."""
        return self._data.count(b"\n", 0, start), self._data.count(b"\n", 0, end) + 1
