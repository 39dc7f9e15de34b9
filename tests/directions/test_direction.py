"""The value itself: what it refuses, its algebra, and what becomes of the provenance."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.directions import SITES, Direction, Provenance
from interp.directions.provenance import from_json
from interp.errors import InterpError

from .examples import FULL, direction, directions, same_bits


@pytest.mark.parametrize(
    ("vector", "match"),
    [
        (torch.ones(1, 3), r"blocks\.1\.hook_resid_post: the direction has shape \[1, 3\]; give one axis"),
        (torch.ones(0), r"shape \[0\]"),
        (torch.tensor(1.0), r"shape \[\]"),
        (torch.tensor([1.0, math.nan]), "NaN or infinity"),
        (torch.tensor([1.0, -math.inf]), "NaN or infinity"),
        (torch.tensor([1e300, 1.0], dtype=torch.float64), "infinity in float32"),
        (torch.zeros(3), "is zero, so it points nowhere"),
        (torch.tensor([1e-300], dtype=torch.float64), "is zero"),
        (torch.tensor([1, 2]), r"is torch\.int64; give floats"),
    ],
)
def test_what_is_no_direction_is_refused(vector, match):
    with pytest.raises(InterpError, match=match):
        Direction(vector, 1)


@pytest.mark.parametrize(
    ("place", "match"),
    [((-1, "resid_post"), "layer -1"), ((True, "resid_post"), "layer True"), ((1, "mlp_out"), "'mlp_out' is not one")],
)
def test_a_place_that_does_not_exist_is_refused(place, match):
    with pytest.raises(InterpError, match=match):
        Direction(torch.ones(2), *place)


def test_the_vector_is_a_copy_in_float32():
    given_rows = torch.ones(2, 4, dtype=torch.float64, requires_grad=True)
    made = Direction(given_rows[:, 1], 0)
    with torch.no_grad():
        given_rows.zero_()
    assert made.vector.dtype == torch.float32
    assert not made.vector.requires_grad
    assert made.vector.tolist() == [1.0, 1.0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.layer = 3


def test_names_norm_and_scaling():
    v = direction((3.0, 4.0), layer=7, site="resid_mid")
    assert v.hook_name == "blocks.7.hook_resid_mid"
    assert (v.norm, v.d_model) == (5.0, 2)
    assert v.unit().vector.tolist() == pytest.approx([0.6, 0.8])
    assert v.scaled(10).vector.tolist() == [6.0, 8.0]
    assert v.scaled(10).provenance == v.provenance
    for norm in (0, -1, math.nan, math.inf):
        with pytest.raises(InterpError, match="not above 0 and finite"):
            v.scaled(norm)


@given(directions)
@settings(max_examples=25)
def test_a_unit_vector_has_norm_1_and_the_same_direction(v):
    assert v.unit().norm == pytest.approx(1, abs=1e-6)
    assert v.cosine(v.unit()) == pytest.approx(1, abs=1e-6)
    assert v.cosine(-v) == pytest.approx(-1, abs=1e-6)


@given(directions)
@settings(max_examples=25)
def test_negating_twice_gives_the_vector_to_the_bit(v):
    opposite = -v
    assert same_bits((-opposite).vector, v.vector)
    assert opposite.provenance.evidence == {}


@given(st.integers(0, 10**6))
@settings(max_examples=25)
def test_orthogonal_means_no_projection_is_left(seed):
    draw = torch.Generator().manual_seed(seed)
    a, b = (direction(torch.randn(8, generator=draw).tolist()) for _ in range(2))
    left = a.orthogonal_to(b)
    assert abs(left.cosine(b)) < 1e-5
    along = (a - left).cosine(b)
    assert abs(along) == pytest.approx(1, abs=1e-4)
    assert math.copysign(1, along) == math.copysign(1, a.cosine(b))


def test_parallel_directions_leave_nothing():
    with pytest.raises(InterpError, match="parallel"):
        direction((1.0, 2.0)).orthogonal_to(direction((-2.0, -4.0)))
    with pytest.raises(InterpError, match="is zero"):
        direction() - direction()


@pytest.mark.parametrize("other", [{"layer": 3}, {"site": "resid_pre"}, {"values": (1.0, 2.0, 3.0)}])
@pytest.mark.parametrize("operation", ["__add__", "__sub__", "orthogonal_to", "cosine"])
def test_directions_of_two_places_do_not_mix(operation, other):
    with pytest.raises(InterpError, match="make both at one site"):
        getattr(direction(), operation)(direction(**other))


def test_a_sum_names_its_parents_and_drops_their_evidence():
    other = direction((1.0, 0.0), provenance=Provenance("from_latents", model="base", residual_norm=9.0))
    made = (direction() - other).provenance
    assert (direction() + other).vector.tolist() == [4.0, 4.0]
    assert (direction() - other).vector.tolist() == [2.0, 4.0]
    assert made.method == "(probe) - (from_latents)"
    assert [parent.method for parent in made.parents] == ["probe", "from_latents"]
    assert (made.model, made.residual_norm, made.evidence) == (None, 40.0, {})
    assert made.norm == pytest.approx(math.sqrt(20))
    assert not made.parents[0].evidence
    assert (direction() + direction((1.0, 0.0))).provenance.model == "distilled"


def test_the_opposite_swaps_the_sides():
    made = (-direction()).provenance
    assert (made.rows_inside, made.rows_outside, made.method) == (70, 30, "-(probe)")


def test_equal_directions_are_equal_and_hash_alike():
    assert direction() == direction()
    assert hash(direction((0.0, 1.0))) == hash(direction((-0.0, 1.0)))
    assert direction() != direction(layer=3)
    assert direction() != direction(provenance=Provenance())
    assert direction() != direction((3.0, 5.0))
    assert direction() != "direction"


def test_the_representation_is_short():
    assert repr(direction()) == "Direction(blocks.2.hook_resid_post, d_model=2, norm=5, probe)"


@pytest.mark.parametrize(
    ("field", "match"),
    [
        ({"method": None}, "method is None; it must be text"),
        ({"model": 3}, "model is 3; it must be text"),
        ({"rows_inside": -1}, "rows_inside is -1"),
        ({"rows_outside": True}, "rows_outside is True"),
        ({"norm": math.nan}, "norm is nan; it must be a finite number above 0"),
        ({"residual_norm": 0.0}, "residual_norm is 0.0"),
        ({"latents": (1, -2)}, r"latents is \(1, -2\)"),
        ({"parents": ("x",)}, "parents is"),
        ({"evidence": {"effect": math.nan}}, "evidence is not JSON .*None for NaN"),
        ({"evidence": {"rows": torch.ones(2)}}, "evidence is not JSON"),
        ({"evidence": [1]}, "evidence is list; it must be a dict"),
    ],
)
def test_a_provenance_that_json_or_a_reader_could_not_take_is_refused(field, match):
    with pytest.raises(InterpError, match=match):
        Provenance(**field)


def test_evidence_is_as_it_will_be_read_back():
    assert Provenance(evidence={1: (2, 3)}).evidence == {"1": [2, 3]}


def test_provenance_goes_through_json():
    assert from_json(FULL.to_json()) == FULL
    assert Provenance().to_json() == {"method": "unknown"}
    for values, match in (
        ([], "no names"),
        ({"modle": "x"}, "did you mean 'model'"),
        ({"latents": 3}, "must be a list"),
    ):
        with pytest.raises(InterpError, match=match):
            from_json(values)


def test_the_sites_are_transformer_lens_residuals():
    assert SITES == ("resid_pre", "resid_mid", "resid_post")
