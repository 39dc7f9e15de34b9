"""Reads signs of arithmetic one by one into equations; what counts as one, `equations` says."""

from __future__ import annotations

from dataclasses import dataclass

from interp.traces.sides import Operands, depth, expression, stripped
from interp.traces.signs import BREAK, CLOSE, EQUALS, NUMBER, OPEN, OPERATOR, UNKNOWN, Sign, signs

LONGEST = 64
"""Most signs of an expression; a longer one has no reading, which bounds the time that it takes."""


@dataclass(frozen=True)
class Equation:
    """`operands = result` at characters [start, end), from the first sign to the last figure of the result."""

    start: int
    end: int
    operands: Operands
    """Numbers, operators (`+ - * /`) and brackets in order, in one form for all notations: `("3", "+", "4")`."""
    result: str
    """The result without separators of thousands."""
    equals: int
    """One past the equals sign."""
    shown: int
    """First character of the result as it is written."""

    @property
    def binary(self) -> tuple[str, str, str] | None:
        """(a, operator, b) of an equation of two operands, None of a longer one."""
        return (self.operands[0], self.operands[1], self.operands[2]) if len(self.operands) == 3 else None


class Reader:
    """Reads signs one by one into the current side of a formula; `left` is the expression before the equals sign."""

    def __init__(self, text: str):
        self.text = text
        self.found: list[Equation] = []
        self.side: list[Sign] = []
        self.left: tuple[int, Operands, int] | None = None
        self.last = 0
        """One past the last sign."""

    def close(self) -> None:
        """End the formula: what follows belongs to another one."""
        while self.side and self.side[-1].kind == OPERATOR:  # a dash after the result
            self.side.pop()
        self._finish()
        self.side, self.left = [], None

    def _finish(self) -> None:
        """The side as the result of the expression before it."""
        side = stripped(self.side)
        if self.left is None or len(side) != 1 or not side[0].figures:
            return
        start, operands, equals = self.left
        self.found.append(Equation(start, side[0].figures, operands, side[0].text, equals, side[0].start))

    def take(self, sign: Sign) -> None:
        """Read one sign."""
        operand = bool(self.side) and self.side[-1].kind in (NUMBER, UNKNOWN, CLOSE)
        if sign.kind == EQUALS:
            self._equals(sign)
        elif sign.kind == OPERATOR:
            self._operator(sign, operand)
        elif sign.kind == OPEN:
            self._open(sign, operand)
        elif sign.kind == CLOSE and operand and depth(self.side):
            self.side.append(sign)
        elif sign.kind == BREAK:
            self.close()
        else:
            self._operand(sign if sign.kind != CLOSE else sign._replace(kind=UNKNOWN, text=""), operand)
        if len(self.side) > LONGEST:
            self.side = [sign._replace(kind=UNKNOWN, text="", figures=0)]
        self.last = sign.end

    def _equals(self, sign: Sign) -> None:
        operands = expression(self.side)
        if operands is None and sign.text == "is":  # a word like any other
            self.close()
            return
        self._finish()
        start = stripped(self.side, outer=False)[0].start if operands else 0
        self.left, self.side = (start, operands, sign.end) if operands else None, []

    def _operator(self, sign: Sign, operand: bool) -> None:
        if operand and sign.bullet and sign.text in "-*":  # a list's, or the sign of a number
            self.close()
        elif operand:
            self.side.append(sign)
            return
        adjacent = not self.text[sign.end : sign.end + 1].isspace()  # or the text's end, where a figure may follow
        if sign.text == "*" and not self.side and (sign.bullet or adjacent):
            return  # a list's, or emphasis
        if sign.text == "-" and adjacent and not self.text[max(0, sign.start - 1) : sign.start].isalnum():
            self.side.append(sign)  # of the number that follows
        elif self.side:
            self.close()
        elif sign.text != "-":  # the formula began before, with something that is no number
            self.side = [Sign(UNKNOWN, "", sign.start, sign.start), sign]

    def _open(self, sign: Sign, operand: bool) -> None:
        if operand and self.side[-1].end == sign.start:
            self.side.append(Sign(OPERATOR, "*", sign.start, sign.start))
        elif operand:
            self.close()
        self.side.append(sign)

    def _operand(self, sign: Sign, operand: bool) -> None:
        if operand:
            self.close()
        before = self.side[-2].kind if len(self.side) > 1 else OPEN
        if self.side and self.side[-1].text == "-" and before in (OPEN, OPERATOR) and sign.figures:
            minus = self.side.pop()
            sign = sign._replace(text=f"-{sign.text}", start=minus.start)
        self.side.append(sign)


def read(text: str) -> Reader:
    """The reader at the end of a text, its last formula not yet closed."""
    reader = Reader(text)
    for sign in signs(text):
        reader.take(sign)
    return reader
