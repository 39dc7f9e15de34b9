"""Arithmetic traces of four models, with their marked spans and their summary."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .fake_files import HOSTILE, estimate, write_table

ACCURACY = {"base": 0.43, "distilled": 0.68, "zero_rl": 0.55, "control": 0.44}
MARKERS = {"base": 0.9, "distilled": 5.1, "zero_rl": 1.0, "control": 0.0}
REPAIRED = {"base": 0.05, "distilled": 0.36, "zero_rl": 0.11, "control": 0.03}


def _work(rng: random.Random, model: str, terms: Sequence[int]) -> tuple[str, str, bool]:
    """One model's work on a chain: the prompt, the completion, and whether it ends right."""
    value, true, clauses = terms[0], terms[0], []
    for term in terms[1:]:
        true = (true + term) % 10
        result = (value + term) % 10
        wrong = rng.random() < 0.18
        shown = (result + rng.randrange(1, 10)) % 10 if wrong else result
        clause = f"{value} + {term} = {shown}"
        if wrong and rng.random() < REPAIRED[model] + 0.2:
            clause += f" , {rng.choice(('wait', 'hmm', 'check', 'now'))} , {value} + {term} = {result}"
            shown = result
        clauses.append(clause)
        value = shown
    return f"Q {' + '.join(map(str, terms))} A", f"{' ; '.join(clauses)} #### {value}", value == true


def _spans(text: str, pattern: str, label: str) -> list[dict[str, Any]]:
    return [{"start": m.start(), "end": m.end(), "label": label} for m in re.finditer(pattern, text)]


def write_traces(folder: Path, models: Sequence[str], rng: random.Random, hostile: bool) -> None:
    rows = []
    for at in range(24):
        terms = [rng.randrange(10) for _ in range(5)]
        for model in models:
            prompt, text, correct = _work(rng, model, terms)
            if hostile:
                text = f"{HOSTILE[at % len(HOSTILE)]} {text} wait {''.join(HOSTILE)}"
            rows.append(
                {
                    "problem": f"p{at}",
                    "model": model,
                    "prompt": HOSTILE[0] if hostile else prompt,
                    "text": text,
                    "answer": text[-1] if at % 5 else None,
                    "correct": correct,
                    "grader_failed": False,
                    "finished": bool(at % 5),
                    "n_tokens": len(text.split()),
                    "difficulty": at % 3,
                    "marker_spans": _spans(text, r"\b(wait|hmm|check)\b", "realization"),
                    "behaviour_spans": _spans(text, r", (wait|hmm) ,", "reflection")
                    + _spans(text, r"(?<=(wait|chec) , )\d \+ \d = \d|(?<=hmm , )\d \+ \d = \d", "verification"),
                }
            )
    write_table(folder / "traces.parquet", rows)
    summary = []
    for model in models:
        values = {
            "accuracy": (ACCURACY[model], 0.03),
            "accuracy_greedy": (ACCURACY[model] + 0.05, 0.03),
            "marker_density": (MARKERS[model], 0.2),
            "verification_rate": (REPAIRED[model], 0.04),
            "redone": (REPAIRED[model] * 2, 0.05),
            "revised": (0.8, 0.06),
            "length": (29 + 2 * MARKERS[model], 0.4),
            "finished": (0.97, 0.01),
            "repetition": (0.034, 0.006),
        }
        for metric, (value, half) in values.items():
            row = {"model": model, "metric": metric, **estimate(value, half), "refused": None}
            if (model, metric) == ("control", "verification_rate"):
                row |= {
                    "estimate": None,
                    "low": None,
                    "high": None,
                    "refused": "nothing to divide by: the event never occurred",
                }
            summary.append(row)
    write_table(folder / "summary.parquet", summary)
