"""Two studies on disk and their reports, made once: an ordinary one, and one full of hostile text."""

from pathlib import Path

import pytest

from interp.report import render

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
