"""Runs for the causal tests: really run on the small models, or written by hand as if they had been."""

import numpy as np
import polars as pl

from interp.causal.arms import BOTH, FUNCTION, STYLE
from interp.causal.runs import SCHEMA, UNTOUCHED, Runs
from interp.causal.setting import SAMPLED, Setting
from interp.tasks.chains import ChainTask
from interp.traces.lexicon import load_lexicon

READ = "3 + 4 = 7 ; 7 + 1 = 8 #### 8"
"""A text whose steps are read by their equations."""


def make_setting(models, tokenizer, n, **changes):
    """The small models on the organisms' own task."""
    task = ChainTask(3)
    problems = task.problems(n, 0, "test")
    settings = {
        "models": models,
        "tokenizers": dict.fromkeys(models, tokenizer),
        "end_ids": dict.fromkeys(models, ()),
        "prompts": {name: [p.prompt for p in problems] for name in models},
        "problems": problems,
        "task": task,
        "lexicon": load_lexicon("default"),
        "max_new_tokens": 20,
        "temperature": 1.0,
        "seed": 0,
        "names": {name: f"weights of {name}" for name in models},
    }
    return Setting(**(settings | changes))


def answers(share, n, changed=0):
    """The first `share` of n right, but for `changed` of them, for which as many of the wrong ones are right."""
    right = np.arange(n) < round(share * n)
    right[:changed] = False
    right[n - changed :] |= changed > 0
    return right.astype(float)


def run_rows(
    right,
    *,
    arm=UNTOUCHED,
    draw=0,
    model="distilled",
    decoding=SAMPLED,
    numbers=None,
    markers=0.0,
    wrong=0,
    repaired=0,
    redone=0,
    revised=0,
    length=40,
    finished=1.0,
    repeats=0.0,
    fired=0,
    text=READ,
    difficulty=0,
):
    """The rows of one run. Every argument is one value or one a problem: `right` answers, `markers` per 100 tokens,
    `wrong` steps and those `repaired`, steps `redone` and those `revised`."""
    n = len(right)

    def column(value, kind=float):
        return np.broadcast_to(np.asarray(value, dtype=kind), n).copy()

    length = np.broadcast_to(np.asarray(length, dtype=float), n)
    ones, numbers = np.ones(n), np.arange(n) if numbers is None else np.asarray(numbers)
    parts = {
        "accuracy": (column(right), ones),
        "marker_density": (column(np.asarray(markers) * length), length.copy()),
        "verification_rate": (column(repaired), column(wrong)),
        "redone": (column(redone), ones),
        "revised": (column(revised), column(redone)),
        "length": (length.copy(), ones),
        "finished": (column(finished), ones),
        "repetition": (column(repeats), ones),
    }
    columns = {
        "arm": _repeat(arm, n),
        "draw": column(draw, int),
        "model": _repeat(model, n),
        "decoding": _repeat(decoding, n),
        "problem": [f"problem {i}" for i in numbers.tolist()],
        "number": numbers,
        "difficulty": column(difficulty, int),
        "fired": column(fired, int),
        "n_tokens": length.astype(int),
        "done": column(finished) > 0,
        "text": _repeat(text, n) if isinstance(text, str) else list(text),
        "completion_ids": _repeat([5, 6], n),
        "prompt_ids": _repeat([7], n),
    }
    columns |= {
        f"{o}_{part}": values for o, pair in parts.items() for part, values in zip(("top", "bottom"), pair, strict=True)
    }
    return pl.DataFrame(columns).select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())


def _repeat(value, n):
    return pl.Series([value]).new_from_index(0, n)


def about(claim="", **changes):
    """What a table says of an arm."""
    fields = {
        "claim": claim,
        "family": {STYLE: "style", FUNCTION: "function", BOTH: "both"}.get(claim, "edits"),
        "control_name": "controls",
        "site": None,
        "layer": None,
        "dose": None,
        "note": "",
        "found": False,
        "forced": bool(claim),
        "models": ("distilled", "base", "control") if claim else ("distilled",),
        "first": 0,
        "edit": "an edit",
    }
    return fields | changes


class Table:
    """Builds a table run by run: first the untouched runs, then the arms."""

    def __init__(self):
        self.frames, self.arms, self.plain = [], {}, {}

    def untouched(self, model, right, **columns):
        self.plain[model] = {"right": right} | columns
        self.frames.append(run_rows(right, model=model, **columns))
        return self

    def arm(self, name, claim="", right=None, *, base=None, control=None, draws=(), numbers=None, said=None, **columns):
        """One arm on `distilled`, and on `base` and `control` where these models were run; their own accuracy where
        none is given. `draws` are the controls' answers, alone or with other columns. What is not given is as
        untouched; an edit of a claim fires twice a row."""
        self.arms[name] = about(claim, **(said or {}))
        n = len(self.plain["distilled"]["right"])
        numbers = range(n) if numbers is None else numbers
        fires = {"fired": 2} if claim else {}
        for model, values in (("distilled", right), ("base", base), ("control", control)):
            if model in self.plain and (model in self.arms[name]["models"]):
                own = self._own(model, numbers)
                given = {} if values is None else {"right": _at(values, numbers, n)}
                mine = columns if model == "distilled" else {}
                self._add(own | fires | given | mine, arm=name, model=model, numbers=numbers)
        for draw, values in enumerate(draws, 1):
            given = values if isinstance(values, dict) else {"right": values}
            m = len(given["right"])
            self._add(
                self._own("distilled", list(numbers)[:m]) | fires | given,
                arm=name,
                draw=draw,
                numbers=list(numbers)[:m],
            )
        return self

    def _own(self, model, numbers):
        return {k: _at(v, numbers, len(self.plain[model]["right"])) for k, v in self.plain[model].items()}

    def _add(self, columns, **labels):
        columns = dict(columns)
        self.frames.append(run_rows(columns.pop("right"), **labels, **columns))

    def runs(self):
        return Runs(pl.concat(self.frames), self.arms)


def _at(values, numbers, n):
    """A column's values at some problems; one value for all stays one."""
    if isinstance(values, str) or np.ndim(values) == 0 or len(values) != n:
        return values
    return [values[i] for i in numbers] if isinstance(values, list) else np.asarray(values)[list(numbers)]
