"""Where the decision can be read: lines, points and marks are those of the file, and the page says why."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from matplotlib.colors import to_hex

from interp.errors import InterpError
from interp.features.contrasts import MARKER_NEUTRAL, ONSET_FORK, WRONG_RIGHT
from interp.features.sites import SCANNED
from interp.models.hooks import Site
from interp.names import STAGE_NAMES
from interp.report import render
from interp.report.definitions import DEFINITIONS
from interp.report.figures.sites import LEAST, MOST, sites
from interp.report.inputs import read_study
from interp.report.palette import MODEL_COLOURS, MODEL_LABELS, MODEL_SHAPES, SITE_COLOURS, house_style
from interp.report.schemas import SITES as SCHEMA
from interp.report.sites import ORDER, hook, read_decision
from interp.stages.sites import SCHEMA as WRITTEN

from .conftest import CONFIG
from .fake_files import MODELS, write_json
from .fake_sites import CHOSEN, CONTRASTS, LAYERS, WHY, write_sites
from .pages import Page, tables

PLACES = [(layer, site) for layer in range(LAYERS) for site in ORDER]
STREAM = ("resid_mid", "resid_post")
DIRECTIONS = {"noising": SITE_COLOURS[0], "denoising": SITE_COLOURS[1]}


@pytest.fixture
def copy(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("interp.report.page.FIGURES", (sites,))
    return shutil.copytree(study, tmp_path / "study", ignore=shutil.ignore_patterns("report"))


def edit(study: Path, **changes: object) -> None:
    path = study / "sites" / "site.json"
    write_json(path, json.loads(path.read_text()) | changes)


def read(study: Path) -> str:
    return Page(render(study, study / "out", "Sites", CONFIG)).text


def draw(study):
    with house_style():
        return sites(study)


def scan(study: Path, contrast: str, model: str = "distilled") -> list[dict]:
    rows = pl.read_parquet(study / "sites" / "sites.parquet")
    return rows.filter(pl.col("contrast") == contrast, pl.col("model") == model).to_dicts()


def drawn(axes, colour: str, marks: str) -> dict[tuple[int, str], float]:
    """Place to height of all points with one colour and one of these marks."""
    lines = [line for line in axes.lines if to_hex(line.get_color()).upper() == colour and line.get_marker() in marks]
    points = [point for line in lines for point in zip(line.get_xdata(), line.get_ydata(), strict=True)]
    found = {PLACES[round(x)]: float(y) for x, y in points}
    assert len(found) == len(points), "no place twice"
    return found


def left_and_right(figure):
    return list(zip(figure.axes[::2], figure.axes[1::2], CONTRASTS, strict=True))


def test_the_names_are_those_of_the_stage(study: Path):
    assert ORDER == SCANNED
    assert list(WRITTEN) == list(SCHEMA) == pl.read_parquet(study / "sites" / "sites.parquet").columns
    assert set(CONTRASTS) < {WRONG_RIGHT, ONSET_FORK, MARKER_NEUTRAL}
    assert hook({"layer": 2, "name": "resid_mid"}) == str(Site(2, "resid_mid"))


def test_every_auroc_is_drawn_at_its_site_in_its_models_colour_and_shape(study: Path):
    figure = draw(read_study(study)).figure
    for axes, _, contrast in left_and_right(figure):
        assert axes.get_title(loc="left") == f"{contrast} ({CONTRASTS[contrast]} held-out pairs)"
        for model in MODELS:
            wanted = {(row["layer"], row["site"]): row["auroc"] for row in scan(study, contrast, model)}
            assert drawn(axes, MODEL_COLOURS[model], MODEL_SHAPES[model]) == pytest.approx(wanted)
    named = [f"{layer} {site}" for layer, site in PLACES]
    assert [label.get_text() for label in figure.axes[-2].get_xticklabels()] == named


def test_one_line_a_model_joins_the_residual_stream_in_the_order_of_computation(study: Path):
    stream = [i for i, (_, site) in enumerate(PLACES) if site in STREAM]
    for axes, _, _ in left_and_right(draw(read_study(study)).figure):
        joined = [line for line in axes.lines if line.get_linestyle() == "-" and line.get_marker() != "None"]
        assert [to_hex(line.get_color()).upper() for line in joined] == [MODEL_COLOURS[model] for model in MODELS]
        assert all(list(line.get_xdata()) == stream for line in joined)


def shade(collection) -> str:
    """Colour of a band or of upright lines."""
    colours = [*collection.get_facecolor(), *collection.get_edgecolor()]
    return to_hex(colours[0]).upper()


def test_every_auroc_has_its_interval(study: Path):
    for axes, _, contrast in left_and_right(draw(read_study(study)).figure):
        for model in MODELS:
            paths = [path for c in axes.collections if shade(c) == MODEL_COLOURS[model] for path in c.get_paths()]
            corners = {(round(float(x)), round(float(y), 6)) for path in paths for x, y in path.vertices}
            for row in scan(study, contrast, model):
                at = PLACES.index((row["layer"], row["site"]))
                assert {(at, round(row["low"], 6)), (at, round(row["high"], 6))} <= corners


def test_the_dotted_line_is_the_distilled_models_shuffled_labels(study: Path):
    for axes, _, contrast in left_and_right(draw(read_study(study)).figure):
        (line,) = [line for line in axes.lines if line.get_linestyle() == ":"]
        assert list(line.get_ydata()) == pytest.approx([row["shuffled"] for row in scan(study, contrast)])
        assert to_hex(line.get_color()).upper() == MODEL_COLOURS["distilled"]
        assert 0.5 in {line.get_ydata()[0] for line in axes.lines if list(line.get_xdata()) == [0, 1]}


def test_patches_are_the_distilled_models_by_direction_and_those_beyond_the_axis_are_at_its_edge(study: Path):
    drawing = draw(read_study(study))
    for _, axes, contrast in left_and_right(drawing.figure):
        assert axes.get_title(loc="left") == f"{contrast}: patches of distilled"
        for (direction, colour), shape in zip(DIRECTIONS.items(), "os", strict=True):
            shares = {(r["layer"], r["site"]): r[direction] for r in scan(study, contrast) if r[direction] is not None}
            clipped = {place: min(MOST, max(LEAST, share)) for place, share in shares.items()}
            assert drawn(axes, colour, shape) == pytest.approx(clipped)
            beyond = {place: edge for place, edge in clipped.items() if shares[place] != edge}
            assert drawn(axes, colour, "v^") == beyond
            assert len(shares) == len(PLACES) - (LAYERS if contrast == "onset / fork" else 0), "nulls are left out"
    assert (
        "2 of 42 shares lie outside the axis (triangles at its edge; the lowest −0.42, the highest 1.63)"
        in drawing.caption
    )


def test_the_legend_names_each_line_by_its_colour(study: Path):
    legend = draw(read_study(study)).figure.legends[0]
    looks = {
        t.get_text(): (to_hex(h.get_color()).upper(), h.get_marker())
        for t, h in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }
    assert [looks[MODEL_LABELS[m]] for m in MODELS] == [(MODEL_COLOURS[m], MODEL_SHAPES[m]) for m in MODELS]
    assert looks["noising patch"] == (SITE_COLOURS[0], "o") and looks["denoising patch"] == (SITE_COLOURS[1], "s")
    assert "distilled, labels shuffled" in looks and "chosen site" in looks and "residuals are read" not in looks


def upright(axes) -> dict[str, float]:
    """Line style to place of the marks of sites, which are dashed."""
    lines = [line for line in axes.lines if list(line.get_ydata()) == [0, 1] and line.get_linestyle() != "-"]
    return {line.get_linestyle(): line.get_xdata()[0] for line in lines}


def test_the_chosen_site_is_marked_in_every_panel_and_so_is_another_that_is_read(copy: Path):
    chosen = PLACES.index((CHOSEN["layer"], CHOSEN["name"]))
    assert [upright(axes) for axes in draw(read_study(copy)).figure.axes] == [{"--": chosen}] * 4
    edit(copy, read={"layer": 1, "name": "resid_post"})
    assert upright(draw(read_study(copy)).figure.axes[0]) == {"--": chosen, "-.": PLACES.index((1, "resid_post"))}
    edit(copy, chosen=None)
    drawing = draw(read_study(copy))
    assert upright(drawing.figure.axes[0]) == {"-.": PLACES.index((1, "resid_post"))}
    assert "chosen site" not in drawing.alt


def test_the_description_names_the_highest_aurocs_and_what_is_carried_at_the_chosen_site(study: Path):
    alt = draw(read_study(study)).alt
    for contrast in CONTRASTS:
        best = []
        for model in MODELS:
            row = max(scan(study, contrast, model), key=lambda row: row["auroc"])
            best.append(f"{MODEL_LABELS[model]} {row['auroc']:.3f} at blocks.{row['layer']}.hook_{row['site']}")
        (row,) = [r for r in scan(study, contrast) if {"layer": r["layer"], "name": r["site"]} == CHOSEN]
        carried = ", ".join(f"{direction} {100 * row[direction]:.0f} % of the margin" for direction in DIRECTIONS)
        said = (
            f"{contrast}: highest held-out AUROC {', '.join(best)}. At the chosen site: {row['auroc']:.3f}, {carried}."
        )
        assert said in alt


def test_nulls_are_left_out(copy: Path):
    path = copy / "sites" / "sites.parquet"
    table = pl.read_parquet(path)
    first = pl.int_range(pl.len()) % 4 == 0
    holes = {name: pl.when(first).then(None).otherwise(pl.col(name)) for name in table.columns if name != "contrast"}
    pl.concat(
        [
            table.with_columns(**{k: holes[k] for k in ("auroc", "low", "shuffled")}),
            table.head(9).with_columns(**holes),
            table.head(2).with_columns(high=None, held_out=None, shuffled=float("nan")),
        ]
    ).write_parquet(path)
    drawing = draw(read_study(copy))
    ys = [y for line in drawing.figure.axes[0].lines for y in line.get_ydata() if line.get_marker() == "D"]
    assert len(ys) == len(PLACES) * 3 // 4 and None not in ys, "a quarter of the distilled model's have no AUROC"
    for name in ("noising", "denoising"):
        table = table.with_columns(pl.lit(None).cast(pl.Float64).alias(name))
    table.write_parquet(path)
    drawing = draw(read_study(copy))
    assert len(drawing.figure.axes) == 2, "no panels of patches"
    assert "Right" not in drawing.caption and "lie outside" not in drawing.caption
    assert "At the chosen site: 0." in drawing.alt and "%" not in drawing.alt
    table.with_columns(auroc=None).write_parquet(path)
    assert draw(read_study(copy)) is None
    assert "No site was scanned." in read(copy)


def test_a_contrast_without_a_margin_says_so(copy: Path):
    path = copy / "sites" / "sites.parquet"
    kept = pl.col("contrast") == "wrong / right"
    pl.read_parquet(path).with_columns(pl.when(kept).then(pl.col("noising", "denoising"))).write_parquet(path)
    texts = [[text.get_text() for text in axes.texts] for _, axes, _ in left_and_right(draw(read_study(copy)).figure)]
    assert texts == [[], ["no margin to carry"]]


def test_a_model_of_30_blocks_is_labelled_by_block(tmp_path: Path):
    write_sites(tmp_path, MODELS, hostile=False, layers=30)
    rows = pl.read_parquet(tmp_path / "sites.parquet")
    axes = draw(SimpleNamespace(models=MODELS, sites=rows, site={"chosen": CHOSEN, "read": CHOSEN})).figure.axes[-2]
    ticks = {label.get_text(): x for label, x in zip(axes.get_xticklabels(), axes.get_xticks(), strict=True)}
    assert 8 <= len(ticks) <= 16
    assert all(x == len(ORDER) * int(block) for block, x in ticks.items())
    assert axes.get_xlabel() == f"Block (in each: {', '.join(ORDER)})"
    assert upright(axes) == {"--": len(ORDER) * 2 + 1}


def test_the_page_says_why_where_and_by_which_tokens(report: Path):
    text = " ".join(Page(report / "index.html").text.split())
    assert f"The choice of a site: {WHY}. Residuals are read at blocks.2.hook_resid_mid, the chosen site." in text
    assert "after onsets (they follow 94 % of them) Ġwait ,; after forks (they follow 97 % of them) ;." in text
    assert "smaller half of the problems): marker / neutral (39)." in text
    assert tables(report / "index.html", "sites") == []


def test_where_residuals_are_read_beside_the_chosen_site(copy: Path):
    other = {"layer": 0, "name": "resid_post"}
    edit(copy, read=other)
    wanted = "read at blocks.0.hook_resid_post, as the config asks, and not at the chosen site blocks.2.hook_resid_mid."
    assert wanted in read(copy)
    edit(copy, read=other, chosen=None, margin=None)
    text = read(copy)
    assert "read at blocks.0.hook_resid_post; no site was chosen." in text
    assert "No token clearly follows onsets or forks" in text


def test_only_the_first_tokens_of_many_are_shown(copy: Path):
    edit(copy, margin={"onset": [f"t{i}" for i in range(23)], "other": [None], "onset_share": None})
    found = read_decision(read_study(copy))
    assert found is not None
    onsets, forks = found.sides
    assert (len(onsets.tokens), onsets.more, onsets.share) == (20, 3, "–")
    assert (forks.tokens, forks.more) == (["∅"], 0)


def test_hostile_reasons_and_tokens_are_shown_as_text(hostile_report: Path):
    html = (hostile_report / "index.html").read_text(encoding="utf-8")
    section = html.partition('<section id="sites">')[2].partition("</section>")[0]
    why, tokens = section.partition("The tokens that decide")[::2]
    for part in (why, tokens):
        assert "&lt;img" in part and "<img src=x" not in part and "⟨U+202E⟩" in part and "\u202e" not in part
    assert tokens.count("∅") == 2, "the empty token, on both sides"


def test_a_study_without_the_stage_has_neither_section_nor_figure(copy: Path):
    shutil.rmtree(copy / "sites")
    page = Page(render(copy, copy / "out", "Without", CONFIG))
    ids = {attrs.get("id") for _, attrs in page.tags}
    assert not {"sites", "noticing"} & ids and not {"#sites", "#noticing"} & set(page.links())
    assert {"models", "crosscoder"} <= ids
    assert not list((copy / "out" / "figures").iterdir())
    for name in ("noticed.parquet", "sites.parquet", "site.json", "manifest.json"):
        assert f"sites/{name} is absent." in page.text


@pytest.mark.parametrize("left", ["sites.parquet", "site.json"])
def test_half_of_the_stage_is_shown(copy: Path, left: str):
    for name in {"sites.parquet", "site.json"} - {left}:
        (copy / "sites" / name).unlink()
    text = read(copy)
    assert "Where the decision can be read" in text
    assert ("No site was scanned." in text) == (left == "site.json") == (WHY in text)
    assert "No token clearly follows" not in text


@pytest.mark.parametrize("name", ["noticed.parquet", "sites.parquet", "site.json"])
def test_a_damaged_file_is_named_with_its_mend(copy: Path, name: str):
    (copy / "sites" / name).write_bytes(b"{ half")
    with pytest.raises(InterpError, match="interp sites CONFIG") as caught:
        read(copy)
    assert name in str(caught.value)


def test_the_stage_is_listed_in_its_place_and_its_words_are_defined(report: Path):
    stages = [row[0] for row in tables(report / "index.html", "provenance")[0][1:]]
    assert stages == list(STAGE_NAMES[:-1])
    words = DEFINITIONS["Noticing and deciding"]
    assert {"injected error", "onset", "fork", "margin", "noising, denoising patch"} <= words.keys()
    text = Page(report / "index.html").text
    assert all(meaning in text for meaning in words.values())
