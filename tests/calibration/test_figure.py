"""The figure of the calibration shows the table's numbers."""

import polars as pl
import pytest

from interp.calibration.figure import SAID, calibration
from interp.calibration.organisms import SCHEMA
from interp.calibration.power import SIZES
from interp.organisms.kinds import KINDS
from interp.report.palette import house_style, save

ROWS = [
    ("chains", "gated", "stylistic", "undetermined"),
    ("chains", "gated", "functional", "stylistic"),
    ("lists", "functional", "functional", "functional"),
    ("lists", "plain", None, None),
]


@pytest.fixture(scope="module")
def drawing():
    rows = [
        {"world": world, "kind": kind, "truth": KINDS[kind].truth, "verdict": verdict, "circuit": circuit}
        | {f"{name}_{n}": "functional" for n in SIZES for name in ("verdict", "circuit")}
        for world, kind, verdict, circuit in ROWS
    ]
    with house_style():
        return calibration(pl.DataFrame(rows, schema=SCHEMA), 512)


def bars(drawing):
    """(row of the truth, whether it is the lower bar, left, width) to the colour's name."""
    names = {colour.lower(): name for name, colour in SAID.items()}
    found = {}
    for patch in drawing.figure.axes[0].patches:
        (red, green, blue, _), middle = patch.get_facecolor(), patch.get_y() + patch.get_height() / 2
        colour = f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
        if patch.get_width():
            found[round(middle), middle > round(middle), patch.get_x(), patch.get_width()] = names[colour]
    return found


def test_every_organism_is_in_one_bar_of_each_instrument(drawing):
    labels = [text.get_text().replace("\n", " ") for text in drawing.figure.axes[0].get_yticklabels()]
    assert labels == ["functional", "stylistic", "no gain beyond training"]
    assert bars(drawing) == {
        (0, False, 0, 1): "right",
        (0, True, 0, 1): "right",
        (1, False, 0, 1): "right",
        (1, False, 1, 1): "wrong",
        (1, True, 0, 1): "right",
        (1, True, 1, 1): "undetermined",
        (2, False, 0, 1): "failed",
        (2, True, 0, 1): "failed",
    }


def test_shares_are_of_all_and_of_each_world_and_power_ends_at_the_whole(drawing):
    _, shares, power = drawing.figure.axes
    labels = [text.get_text() for text in shares.get_yticklabels()]
    assert labels[:3] == ["verdict given, all", "chains", "lists"] and len(labels) == 4 * 3
    text, circuit = (line.get_xydata().tolist() for line in power.lines)
    assert text == [[64, 25], [128, 25], [256, 25], [512, 50]]
    assert circuit == [[64, 25], [128, 25], [256, 25], [512, 50]]
    assert "right among given (by text): 2 of 3" in drawing.alt
    assert "false 'stylistic' (through the circuit): 0 of 2" in drawing.alt


def test_the_same_table_is_the_same_bytes(drawing, tmp_path):
    with house_style():
        save(drawing, tmp_path)
    assert (tmp_path / "calibration.svg").stat().st_size > 10_000
