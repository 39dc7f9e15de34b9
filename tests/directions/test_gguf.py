"""Control vectors: to the bit through llama.cpp's format, as repeng writes and reads it; hostile files are refused."""

import struct
import tempfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from interp.directions import Direction, Provenance, export_gguf, load, load_all
from interp.errors import InterpError

from .examples import direction, names, same_bits
from .test_files import refused


@st.composite
def stacks(draw):
    """Directions of several blocks and one width."""
    width = draw(st.integers(1, 9))
    finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
    row = arrays.arrays("float32", width, elements=finite).filter(lambda r: r.any())
    blocks = draw(st.lists(st.integers(1, 200), min_size=1, max_size=4, unique=True))
    return [Direction(torch.from_numpy(draw(row)), block) for block in blocks]


@given(stacks())
@settings(max_examples=25)
def test_export_and_load_are_the_same_to_the_bit(stack):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v.gguf"
        export_gguf(stack, path, "qwen2")
        found = load_all(path)
        assert names(folder) == ["v.gguf"]
    assert list(found) == sorted(d.layer for d in stack)
    for d in stack:
        assert same_bits(found[d.layer].vector, d.vector)
        assert found[d.layer].site == "resid_post"
        assert found[d.layer].provenance.model == "qwen2"


def test_the_reader_of_the_library_finds_what_llama_cpp_and_repeng_ask_for(tmp_path):
    path = tmp_path / "v.gguf"
    export_gguf({2: direction(), 5: direction((1.0, 2.0), layer=5)}, path, "llama")
    reader = gguf.GGUFReader(path)
    text = {
        key: bytes(reader.get_field(key).parts[-1]).decode()
        for key in ("general.architecture", "controlvector.model_hint")
    }
    assert text == {"general.architecture": "controlvector", "controlvector.model_hint": "llama"}
    assert int(reader.get_field("controlvector.layer_count").parts[-1][0]) == 2
    tensors = {t.name: t for t in reader.tensors}
    assert list(tensors) == ["direction.2", "direction.5"]
    for name, values in (("direction.2", [3.0, 4.0]), ("direction.5", [1.0, 2.0])):
        assert tensors[name].tensor_type == gguf.GGMLQuantizationType.F32
        assert tensors[name].data.tolist() == values
        assert list(tensors[name].shape) == [2]


def write(path, tensors, architecture="controlvector", endianess=gguf.GGUFEndian.LITTLE, **fields):
    """A file, written call by call as repeng's export_gguf does."""
    writer = gguf.GGUFWriter(path, architecture, endianess=endianess)
    writer.add_string(f"{architecture}.model_hint", fields.get("hint", "mistral"))
    writer.add_uint32(f"{architecture}.layer_count", len(tensors))
    for name, row in tensors.items():
        writer.add_tensor(name, row)
    if "array" in fields:
        writer.add_array("extra", fields["array"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def row(*values):
    return np.array(values, dtype=np.float32)


@pytest.mark.parametrize("endianess", list(gguf.GGUFEndian))
def test_what_repeng_writes_is_read(tmp_path, endianess):
    """Its layers come in falling order."""
    path = write(tmp_path / "v.gguf", {"direction.9": row(1, 2, 3), "direction.1": row(4, 5, 6)}, endianess=endianess)
    found = load_all(path)
    assert {k: d.vector.tolist() for k, d in found.items()} == {1: [4.0, 5.0, 6.0], 9: [1.0, 2.0, 3.0]}
    assert found[9].hook_name == "blocks.9.hook_resid_post"
    assert found[9].provenance.model == "mistral"
    assert load(path, layer=9) == found[9]
    refused(path, "holds layers 1, 9; give layer=")
    refused(path, "has 3 coordinates, not 4", d_model=4, layer=1)
    refused(path, "site is given as resid_pre", site="resid_pre", layer=1)


def test_metadata_are_not_needed_to_read(tmp_path):
    """As in llama.cpp, which reads none."""
    path = write(tmp_path / "v.gguf", {"direction.3": row(1, 2)}, architecture="llama")
    assert load(path).provenance.model is None


def test_the_vector_is_written_as_it_is_or_in_residual_norms(tmp_path):
    path = tmp_path / "v.gguf"
    for scale, expected in ((None, [3.0, 4.0]), (0.1, [2.4, 3.2]), (-0.1, [-2.4, -3.2])):
        export_gguf(direction(), path, "x", scale)  # norm 5, residual_norm 40
        assert load(path).vector.tolist() == pytest.approx(expected)
    for scale in (0.0, float("nan"), float("inf")):
        with pytest.raises(InterpError, match="needs to be finite and not 0"):
            export_gguf(direction(), path, "x", scale)
    with pytest.raises(InterpError, match="a residual_norm in its provenance"):
        export_gguf(direction(provenance=Provenance()), path, "x", 0.1)


@pytest.mark.parametrize(
    ("given_directions", "hint", "match"),
    [
        (direction(layer=0), "x", "llama.cpp cannot reach block 0"),
        (direction(site="resid_pre"), "x", r"blocks\.2\.hook_resid_pre cannot be written.* adds at resid_post only"),
        ([direction(), direction()], "x", "two directions of one block"),
        ([direction(), direction((1.0,), layer=3)], "x", "of different widths"),
        ([], "x", "needs a direction"),
        (direction(), "", "a model hint"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(tmp_path, given_directions, hint, match):
    with pytest.raises(InterpError, match=match):
        export_gguf(given_directions, tmp_path / "v.gguf", hint)
    assert not names(tmp_path)


def test_a_failed_export_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "v.gguf"
    export_gguf(direction(), path, "x")

    def fail(*_args, **_given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", fail)
    with pytest.raises(InterpError, match="disk is full"):
        export_gguf(direction((1.0,)), path, "x")
    assert load(path).vector.tolist() == [3.0, 4.0]
    assert names(tmp_path) == ["v.gguf"]
    with pytest.raises(InterpError, match=r"does not end in \.gguf"):
        export_gguf(direction(), tmp_path / "v.bin", "x")


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        ({"direction.0": row(1, 2), "direction.1": row(1, 2)}, "direction.0, and llama.cpp cannot reach block 0"),
        ({"direction.1": row(1, 2).astype(np.float16)}, r"direction\.1 is F16 of shape \[2\]"),
        ({"direction.1": np.array([1, 2], dtype=np.int32)}, r"direction\.1 is I32"),
        ({"direction.1": np.ones((2, 3), dtype=np.float32)}, r"F32 of shape \[3, 2\]"),
        ({"direction.1": row(1, np.nan)}, "NaN"),
        ({"direction.1": row(0, 0)}, "is zero"),
        ({"direction.1": row(1, 2), "direction.2": row(1, 2, 3)}, "has 3 coordinates, not 2"),
        ({"direction.01": row(1, 2)}, "is not direction"),
        ({"direction.-1": row(1, 2)}, "is not direction"),
        ({"token_embd.weight": row(1, 2)}, "'token_embd.weight' is not direction.<block>"),
        ({}, "holds no direction"),
    ],
)
def test_other_files_are_refused(tmp_path, tensors, match):
    refused(write(tmp_path / "v.gguf", tensors), match, load_all)


@pytest.mark.filterwarnings("error")
def test_a_file_cut_anywhere_is_refused(tmp_path):
    whole = write(tmp_path / "v.gguf", {"direction.1": row(*range(1, 9))}, array=[1, 2, 3]).read_bytes()
    assert load(tmp_path / "v.gguf").d_model == 8
    for length in range(0, len(whole), 7):
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        refused(tmp_path / "cut.gguf", "not a readable GGUF file")


def header(*, tensors=0, fields=b"", n_fields=1):
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, n_fields) + fields


def text(value):
    return struct.pack("<Q", len(value)) + value


ARRAY, UINT8 = 9, 0
HOSTILE = {
    "an array longer than the file": header(fields=text(b"a") + struct.pack("<IIQ", ARRAY, UINT8, 2**62)),
    "a text longer than the file": header(fields=struct.pack("<Q", 2**64 - 1)),
    "as many fields as can be": header(n_fields=2**64 - 1),
    "as many tensors as can be": header(n_fields=0, tensors=2**64 - 1),
    "arrays in arrays": header(fields=text(b"a") + struct.pack("<I", ARRAY) + struct.pack("<IQ", ARRAY, 1) * 5000),
    "a tensor of 2^63 numbers": header(
        n_fields=0, tensors=1, fields=text(b"direction.1") + struct.pack("<IQIQ", 1, 2**63, 0, 0)
    ),
    "a tensor far behind the end": header(
        n_fields=0, tensors=1, fields=text(b"direction.1") + struct.pack("<IQIQ", 1, 4, 0, 2**64 - 32)
    ),
    "a tensor with 2^32 axes": header(
        n_fields=0, tensors=1, fields=text(b"direction.1") + struct.pack("<IQIQ", 2**32 - 1, 4, 0, 0)
    ),
    "an unknown type": header(n_fields=0, tensors=1, fields=text(b"direction.1") + struct.pack("<IQIQ", 1, 4, 999, 0)),
    "a name that is no UTF-8": header(n_fields=0, tensors=1, fields=text(b"\xff") + struct.pack("<IQIQ", 1, 4, 0, 0)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bytes_", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_end_in_one_line(tmp_path, bytes_):
    (tmp_path / "v.gguf").write_bytes(bytes_ + b"\0" * 64)
    refused(tmp_path / "v.gguf", "not a readable GGUF file")
