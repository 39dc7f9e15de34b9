"""Views by circuitsvis: what they are given, and that no text gets out of them."""

import json
import re
import shutil

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.report import render
from interp.report.inputs import read_study
from interp.report.views import DECIMALS, in_script, scripts
from interp.report.views import heads as views_of

from .fake_files import HOSTILE
from .pages import Page


def test_each_side_has_its_own_patterns_and_names(heads):
    views = views_of(read_study(heads.parent))
    assert [view.id for view in views] == ["heads-0", "heads-1"]
    assert [view.title for view in views] == [
        "Whether to check: after a wrong step",
        "Whether to check: after a right step",
    ]
    for view, share in zip(views, (round(0.12345, DECIMALS), 0.75), strict=True):
        assert view.props["attentionHeadNames"] == ["2.3 · 8.1", "1.3 · 0.3"]
        assert view.props["tokens"] == ["…", "·5", "·="]
        first = view.props["attention"][0]
        assert first[1][0] == share and first[1][1] == pytest.approx(1 - share, abs=10**-DECIMALS)
        assert first[0] == [1, 0, 0] and view.props["maskUpperTri"] is True


def test_the_page_holds_the_bundle_once_and_names_nothing_outside(heads):
    found = Page(heads / "heads.html")
    text = found.path.read_text()
    assert found.links() == ["index.html#circuit"]
    assert text.count("var CircuitsVis=") == 1 and len(text) < 2e6
    assert [tag for tag, _ in found.tags].count("script") == 2
    assert "unpkg" not in text.split("<script>")[0] + text.split("<script>")[2]
    policy = next(attrs["content"] for tag, attrs in found.tags if attrs.get("http-equiv"))
    assert policy.count("sha256-") == 2 and "default-src 'none'" in policy and "unsafe-eval" not in policy
    assert "heads.html" in Page(heads / "index.html").links()


@given(st.text(st.characters(), max_size=40))
def test_any_text_comes_back_from_a_script_and_cannot_end_it(text):
    written = in_script({"tokens": [text]})
    assert "<" not in written and written.isascii()
    assert json.loads(written) == {"tokens": [text]}


def test_the_calls_name_every_view(heads):
    views = views_of(read_study(heads.parent))
    bundle, calls = scripts(views)
    assert "</script" not in bundle.source
    assert re.findall(r'CircuitsVis.render\("(.*?)", CircuitsVis.(.*?),', calls.source) == [
        (view.id, "AttentionHeads") for view in views
    ]


@pytest.mark.parametrize(
    "damage",
    [
        pl.lit(None).alias("attention"),
        pl.col("tokens").list.head(2),
        pl.col("attention").list.head(2),
        pl.lit("sideways").alias("side"),
        pl.lit(HOSTILE[0]).alias("class"),
    ],
)
def test_without_whole_patterns_there_is_no_page_and_no_link(damage, heads, tmp_path, monkeypatch):
    monkeypatch.setattr("interp.report.page.FIGURES", ())
    study = shutil.copytree(heads.parent, tmp_path / "study")
    path = study / "features" / "heads.parquet"
    assert (study / "report" / "heads.html").exists()
    pl.read_parquet(path).with_columns(damage).write_parquet(path)
    out = render(study, study / "report", "x", "").parent
    assert not (out / "heads.html").exists()
    assert "heads.html" not in Page(out / "index.html").links()
    path.unlink()
    assert render(study, study / "report", "x", "").is_file()
