"""From a study's folders to a page that opens from the file system."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment

from interp.report import appendix, contexts, views
from interp.report.circuit import read_circuit
from interp.report.definitions import DEFINITIONS
from interp.report.effects import families, unpatched
from interp.report.environment import environment
from interp.report.figures import FIGURES
from interp.report.inputs import Study, read_study
from interp.report.latents import Latent, baselines, counts, listed, nulls
from interp.report.noticing import read_noticed
from interp.report.numbers import number, real
from interp.report.palette import MODEL_LABELS, Drawing, house_style, save
from interp.report.reliability import Reliability
from interp.report.sites import read_decision
from interp.report.summary import columns, model_rows
from interp.report.traces import samples
from interp.report.verdict import read_verdict


def render(study: Path, out: Path, title: str, config_text: str, reliability: Reliability | None = None) -> Path:
    """Write the report of the study folder `study` into `out`, and return its `index.html`. `reliability` stands beside
    the verdict.

    The same inputs give the same bytes. Nothing written reaches for the network, and every text of a model is
    escaped. `causal/verdict.json` is copied as it is.

    Raises:
        InterpError: a required file of an earlier stage is missing or cannot be read.
    """
    data = read_study(study)
    for folder in (out / "dashboard", out / "figures"):
        folder.mkdir(parents=True, exist_ok=True)
    drawings = _draw(data, out / "figures")
    shown = listed(data)
    env = environment()
    for name, page in _dashboards(env, data, shown, title):
        _write(out / "dashboard" / name, page)
    drawn = views.heads(data) if data.circuit else []  # its section leads there
    (out / "heads.html").unlink(missing_ok=True)  # of an earlier rendering
    if drawn:
        page = env.get_template("heads.html").render(title=title, views=drawn, scripts=views.scripts(drawn))
        _write(out / "heads.html", page)
    _write(
        out / "index.html",
        _index(env, data, shown, drawings, title, config_text, heads=bool(drawn), reliability=reliability),
    )
    shutil.copyfile(study / "causal" / "verdict.json", out / "verdict.json")
    return out / "index.html"


def _draw(study: Study, folder: Path) -> dict[str, Drawing]:
    found: dict[str, Drawing] = {}
    with house_style():
        for draw in FIGURES:
            drawing = draw(study)
            if drawing is not None:
                save(drawing, folder)
                found[drawing.name] = drawing
    return found


def _dashboards(env: Environment, study: Study, shown: list[Latent], title: str) -> Iterator[tuple[str, str]]:
    template, examples = env.get_template("latent.html"), contexts.by_latent(study)
    for at, latent in enumerate(shown):
        page = template.render(
            title=title,
            latent=latent,
            models=study.compared,
            columns=contexts.columns(examples.get(latent.id), study.compared),
            before=shown[at - 1].id if at else None,
            after=shown[at + 1].id if at + 1 < len(shown) else None,
        )
        yield f"latent_{latent.id}.html", page


def _index(
    env: Environment,
    study: Study,
    shown: list[Latent],
    drawings: dict[str, Drawing],
    title: str,
    config_text: str,
    *,
    heads: bool,
    reliability: Reliability | None,
) -> str:
    noticed, decision, circuit = read_noticed(study), read_decision(study), read_circuit(study)
    optional = (("noticing", noticed), ("sites", decision), ("circuit", circuit))
    return env.get_template("index.html").render(
        title=title,
        config_text=config_text,
        study=study,
        drawings=drawings,
        verdict=read_verdict(study),
        reliability=reliability,
        models=list(model_rows(study)),
        columns=columns(),
        noticed=noticed,
        decision=decision,
        circuit=circuit,
        heads=heads,
        left_out=[section for section, found in optional if found is None],
        samples=samples(study),
        evaluation=_evaluation(study),
        latents=shown,
        counts=counts(study),
        baselines=baselines(study),
        nulls=nulls(study),
        families=families(study),
        unpatched=unpatched(study),
        temperature=study.temperature,
        definitions=DEFINITIONS,
        limits=appendix.limits(study),
        stages=appendix.stages(study),
        versions=appendix.versions(study),
    )


def _evaluation(study: Study) -> list[tuple[str, str]]:
    """The crosscoder on held-out rows, as pairs of a name and a number."""
    raw: dict[str, Any] = study.evaluation
    fve = raw.get("fve") or {}
    dead = real(raw.get("dead"))
    pairs = [(f"FVE, {MODEL_LABELS[m]}", number(fve.get(m), 3)) for m in study.compared]
    spliced = {m: found["arms"]["spliced"] for m, found in (raw.get("spliced") or {}).items()}
    recovered = [
        (
            f"Loss recovered, {MODEL_LABELS[m]}",
            f"{number(spliced[m]['loss_recovered'], 3)} (KL {number(spliced[m]['kl'], 3)} nats)",
        )
        for m in study.compared
        if m in spliced
    ]
    return [
        *pairs,
        *recovered,
        (f"L0 (k = {number(raw.get('k'), 0)})", number(raw.get("l0"), 1)),
        ("Dead", "–" if dead is None else f"{number(100 * dead, 1)} %"),
        ("Latents", number(raw.get("n_latents"), 0)),
        ("Held-out rows", number(raw.get("rows_held_out"), 0)),
        ("Rows left out (not finite, outlying)", f"{raw.get('rows_not_finite', 0)}, {raw.get('rows_outlying', 0)}"),
    ]


def _write(path: Path, page: str) -> None:
    # A lone surrogate, which JSON may hold, has no UTF-8.
    path.write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n")
