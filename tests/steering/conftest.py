"""The study that the tests of steering share."""

import pytest

from interp.steering import ablate, dose, export, make
from interp.steering import inputs as reading
from tests.steering.samples import make_study


@pytest.fixture
def stages_are_there(monkeypatch):
    """The sample's stages have no manifests."""
    for module in (make, dose, ablate, export, reading):
        monkeypatch.setattr(module, "require", lambda study, *stages: None)


@pytest.fixture(scope="module")
def shared(models, tokenizer, tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study"), models, tokenizer)
