"""What the report does where something is missing, refused or damaged."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from interp.errors import InterpError
from interp.report import render

from .conftest import CONFIG
from .fake_files import write_json
from .fake_study import make_study
from .pages import Page, pages


def edit_table(path: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    change(pl.read_parquet(path)).write_parquet(path)


def edit_verdict(study: Path, **changes: object) -> None:
    path = study / "causal" / "verdict.json"
    write_json(path, json.loads(path.read_text()) | changes)


@pytest.fixture
def copy(study: Path, tmp_path: Path) -> Path:
    """The ordinary study, to be damaged."""
    return shutil.copytree(study, tmp_path / "study", ignore=shutil.ignore_patterns("report"))


def read(study: Path) -> str:
    return Page(render(study, study / "out", "Gaps", CONFIG)).text


def test_three_models_without_the_control(tmp_path: Path):
    text = read(make_study(tmp_path, models=("base", "distilled", "zero_rl"), n_latents=20))
    assert "There is no control model in this study" in text
    assert "FVE, control" not in text


def test_nothing_optional_is_there(copy: Path):
    for name in (
        "checkpoints/training.parquet",
        "sites/noticed.parquet",
        "sites/sites.parquet",
        "sites/site.json",
        "activations/moved.json",
        "crosscoder/metrics.jsonl",
        "features/examples.parquet",
    ):
        (copy / name).unlink()
    for manifest in copy.rglob("manifest.json"):
        manifest.unlink()
    edit_verdict(copy, truth=None)
    text = read(copy)
    for said in ("No training record", "No stage left a manifest", "A reading, not a calibration", "not known"):
        assert said in text
    assert all(
        "No contexts were kept" in page.text for page in pages(copy / "out") if page.path.parent.name == "dashboard"
    )


def test_stages_that_found_nothing(copy: Path):
    edit_table(copy / "causal" / "effects.parquet", lambda t: t.clear())
    edit_table(copy / "traces" / "traces.parquet", lambda t: t.clear())
    bare = {"confirmed_reflection": False, "confirmed_verification": False, "auroc_marker": None, "nu_error_max": None}
    edit_table(
        copy / "features" / "latents.parquet", lambda t: t.with_columns(**{k: pl.lit(v) for k, v in bare.items()})
    )
    refused = {"refused": "the gain's interval contains 0"}
    arms = {"markers banned": {"own": refused, "net": refused, "beyond": None, "control_drop": None, "reading": None}}
    edit_verdict(copy, verdict="no gain", truth="functional", gain=refused, mediated_fraction=refused, arms=arms)
    text = read(copy)
    for said in (
        "nothing was edited",
        "No latent was confirmed",
        "Latent Scaling was not run",
        "refused: the gain's interval contains 0",
        "The verdict disagrees",
        "traces/traces.parquet has no rows",
        "No loss could be drawn",
    ):
        assert said in text


def test_absent_columns_and_numbers_are_said(copy: Path):
    edit_table(copy / "causal" / "effects.parquet", lambda t: t.drop("p_holm", "coherent", "note"))
    keep = ["latent", "firing_rate"]
    edit_table(copy / "features" / "latents.parquet", lambda t: t.select(keep))
    edit_table(copy / "traces" / "summary.parquet", lambda t: t.filter(pl.col("metric") != "repetition"))
    write_json(copy / "crosscoder" / "evaluation.json", {"fve": {"base": float("nan")}})
    write_json(copy / "causal" / "verdict.json", {"verdict": "undetermined", "models": {}})
    text = read(copy)
    for said in (
        "has no column p_holm, coherent, note",
        "not measured",
        "No specificity was measured",
        "names no arms",
    ):
        assert said in text
    assert "nan" not in text.lower().split()


@pytest.mark.parametrize(
    "name",
    [
        "checkpoints/models.json",
        "traces/traces.parquet",
        "traces/summary.parquet",
        "crosscoder/evaluation.json",
        "features/latents.parquet",
        "causal/effects.parquet",
        "causal/verdict.json",
    ],
)
@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_required_file_is_named_with_its_mend(copy: Path, name: str, damage: str):
    path = copy / name
    path.unlink() if damage == "missing" else path.write_bytes(b"{ half")
    with pytest.raises(InterpError) as caught:
        read(copy)
    message = str(caught.value)
    assert str(path) in message
    assert f"interp {name.split('/')[0]} CONFIG" in message
    assert "\n" not in message
