"""What all parts of the fake study share: its names, hostile texts, and the writing of its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

MODELS = ("base", "distilled", "zero_rl", "control")
HOSTILE = (
    "</script><img src=x onerror=\"document.title='owned'\">",
    "\"><svg onload=document.title='owned'>",
    '<img/src="x"onerror="document.title=\'owned\'">',
    "\u2028${7*7}",
    "'quoted'\"",
    "\n",
    "\t",
    "",
    " ",
    "\u202eright to left",
    "\u200b",
    "\x00",
    "{{ 7 * 7 }}",
    "<!--",
    "&lt;b&gt;",
    "\u0301",
)


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)


def estimate(value: float, half: float) -> dict[str, float]:
    return {"estimate": value, "low": value - half, "high": value + half}
