"""The templates' environment: everything escaped, and one script that may run."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from interp.report.numbers import number
from interp.report.palette import MODEL_COLOURS, MODEL_LABELS
from interp.report.text import SHADES, visible_prose

TEMPLATES = Path(__file__).parent / "templates"


def environment() -> Environment:
    """Templates with autoescaping; a name that a template misspells is an error."""
    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (TEMPLATES / "sort.js").read_text(encoding="utf-8")
    env.globals.update(
        css=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        # Only this script may run, whatever a token managed to write into the page.
        script_hash=script_digest(script),
        colours=MODEL_COLOURS,
        labels=MODEL_LABELS,
        shades=SHADES,
    )
    env.filters.update(number=number, visible=visible_prose)
    return env


def script_digest(source: str) -> str:
    """Under which a page's policy lets this script run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"
