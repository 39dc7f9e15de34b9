"""The page in a real browser, opened from the file system."""

import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--virtual-time-budget=3000",
)


def dom(page: Path, profile: Path) -> str:
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
def test_hostile_text_does_not_run_and_our_script_does(hostile_report: Path, tmp_path: Path):
    index = dom(hostile_report / "index.html", tmp_path / "a")
    latent = dom(next((hostile_report / "dashboard").glob("*.html")), tmp_path / "b")
    for page in (index, latent):
        assert "<title>owned" not in page
        assert page.count("<script") == 1
        assert '<img src="x"' not in page
        assert "<svg" not in page
        assert "&lt;/script&gt;&lt;img" in page
    assert "The verdict agrees." in index
    assert 'type="search"' in index, "the sorting script did not run"
    assert "Strongest contexts" in latent


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
def test_the_heads_are_drawn_and_hostile_tokens_do_not_run(heads: Path, hostile_heads: Path, tmp_path: Path):
    for folder in (heads, hostile_heads):
        page = dom(folder / "heads.html", tmp_path / folder.parents[1].name)
        body = page.split("<body>")[1].split("<script>")[0]
        assert body.count("<canvas") == 6, "of each side two heads and the one that is looked at"
        assert body.count("2.3 · 8.1") >= 2
        assert "<title>owned" not in page and "<img" not in body and "<svg" not in body


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
def test_the_test_would_see_an_attack(tmp_path: Path):
    page = tmp_path / "attack.html"
    page.write_text("<title>quiet</title><img src=x onerror=\"document.title='owned'\">")
    assert "<title>owned" in dom(page, tmp_path / "profile")
