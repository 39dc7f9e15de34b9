"""Two studies on disk and their reports, made once: an ordinary one, and one full of hostile text."""

import shutil
from pathlib import Path

import pytest

from interp.report import render

from .fake_latents import write_heads
from .fake_study import make_study

CONFIG = "task: chains\nnote: \"<script>document.title = 'owned'</script>\"\n"


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def report(study: Path) -> Path:
    return render(study, study / "report", "Fake study", CONFIG).parent


@pytest.fixture(scope="session")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = make_study(tmp_path_factory.mktemp("hostile"), hostile=True)
    return render(study, study / "report", "Hostile </title><script>document.title='owned'</script>", CONFIG).parent


@pytest.fixture(scope="session")
def heads(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the heads, of a study that has them."""
    return _heads(study, tmp_path_factory.mktemp("heads"), hostile=False)


@pytest.fixture(scope="session")
def hostile_heads(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with hostile tokens."""
    return _heads(study, tmp_path_factory.mktemp("hostile_heads"), hostile=True)


def _heads(study: Path, folder: Path, hostile: bool) -> Path:
    copy = shutil.copytree(study, folder / "study", ignore=shutil.ignore_patterns("report"))
    write_heads(copy / "features", hostile)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("interp.report.page.FIGURES", ())
        return render(copy, copy / "report", "Heads </title><script>document.title='owned'</script>", CONFIG).parent
