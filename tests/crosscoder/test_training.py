import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.crosscoder import Crosscoder, CrosscoderConfig, TrainConfig, data, evaluate, train
from interp.crosscoder.data import split_rows
from interp.crosscoder.threshold import calibrate
from interp.crosscoder.training import lr_factor
from interp.errors import InterpError

from .samples import CONFIG, random_crosscoder, random_rows

SHORT = TrainConfig(steps=30, batch_size=64, lr=3e-3, log_every=10)


@pytest.fixture(scope="module")
def rows():
    return random_rows(3000)


@pytest.fixture(scope="module")
def trained(rows):
    return train(rows, CONFIG, SHORT)


def held_out(n):
    return split_rows(n, torch.Generator().manual_seed(SHORT.seed)).held_out


def same(a, b, names=("W_enc", "W_dec", "b_enc", "b_dec", "mean", "scale", "threshold")):
    return all(torch.equal(a.state_dict()[name], b.state_dict()[name]) for name in names)


def test_the_same_seed_gives_the_same_bits_whatever_the_global_generator_says(rows, trained):
    torch.manual_seed(123)
    assert same(train(rows, CONFIG, SHORT), trained)
    assert not same(train(rows, CONFIG, SHORT.model_copy(update={"seed": 1})), trained, names=["W_dec"])


def test_training_lowers_the_loss_and_moves_every_weight(rows):
    log = []
    crosscoder = train(rows, CONFIG, SHORT.model_copy(update={"steps": 200}), log=log)
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]
    start = train(rows, CONFIG, SHORT.model_copy(update={"steps": 1, "lr": 1e-30}))
    for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
        assert not torch.equal(getattr(crosscoder, name), getattr(start, name)), name


def test_held_out_rows_touch_the_threshold_and_nothing_else(rows, trained):
    changed = rows.clone()
    changed[held_out(3000)] *= 2
    other = train(changed, CONFIG, SHORT)
    assert same(other, trained, names=["W_enc", "W_dec", "b_enc", "b_dec", "mean", "scale"])
    assert other.threshold > trained.threshold


def test_l0_on_held_out_rows_is_k_within_two_percent(rows, trained):
    l0 = evaluate(trained, rows[held_out(3000)]).l0
    assert abs(l0 / CONFIG.k - 1) < 0.02


@pytest.mark.parametrize("pieces", [1, 8])
@pytest.mark.parametrize("k", [1, 4, 9])
@torch.no_grad()
def test_calibration_is_exact_where_scores_differ(k, pieces, rows, monkeypatch):
    monkeypatch.setattr(data, "CHUNK_ELEMENTS", 40 * 800 // pieces)
    crosscoder = random_crosscoder(CrosscoderConfig(n_models=3, d_model=8, n_latents=40, k=k))
    places = torch.arange(1000, 1777)
    crosscoder.threshold.copy_(calibrate(crosscoder, rows, places))
    assert int((crosscoder.encode(rows[places]) > 0).sum()) == k * len(places)


def test_calibration_says_where_it_cannot_reach_k(rows):
    crosscoder = random_crosscoder()
    with torch.no_grad():
        crosscoder.b_enc.fill_(-60.0)  # hardly anything is positive
    with pytest.warns(UserWarning, match="L0 on held-out rows is 0.*not k=4"):
        threshold = calibrate(crosscoder, rows, torch.arange(500))
    assert float(threshold) == 0


def test_a_scale_per_model_changes_no_bit_of_the_code(rows, trained):
    factors = torch.tensor([4.0, 0.5, 1.0])[:, None]  # powers of two, so that no rounding differs
    other = train(rows * factors, CONFIG, SHORT)
    assert same(other, trained, names=["W_enc", "W_dec", "b_enc", "b_dec", "threshold"])
    assert not same(other, trained, names=["scale"])
    assert torch.equal(other.encode(rows * factors), trained.encode(rows))


def test_a_shift_and_scale_per_model_leave_the_latents_alone(rows, trained):
    def moved(x):
        return x * torch.tensor([1.7, 0.3, 11.0])[:, None] + torch.tensor([5.0, -2.0, 30.0])[:, None]

    f, other = trained.encode(rows), train(moved(rows), CONFIG, SHORT).encode(moved(rows))
    agree = (f > 0) == (other > 0)
    assert agree.double().mean() > 0.999  # a score on the threshold may round to either side
    assert (f - other)[agree].abs().max() < 1e-3 * f.max()


def test_rows_may_be_a_memory_mapped_file(tmp_path, rows, trained):
    array = np.lib.format.open_memmap(tmp_path / "rows.npy", mode="w+", dtype=np.float32, shape=tuple(rows.shape))
    array[:] = rows.numpy()
    array.flush()
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r+")
    assert same(train(torch.from_numpy(mapped), CONFIG, SHORT), trained)


def test_rows_may_be_of_low_precision(rows):
    low = rows.bfloat16()
    assert same(train(low, CONFIG, SHORT), train(low.float(), CONFIG, SHORT))


def test_the_log_and_the_callback_hear_the_same_rows(rows):
    log, heard = [], []
    train(rows, CONFIG, SHORT.model_copy(update={"steps": 25}), log=log, on_step=lambda *row: heard.append(row))
    assert [row["step"] for row in log] == [10, 20, 25]
    assert heard == [(int(row["step"]), row) for row in log]
    assert log[0].keys() == {"step", "lr", "loss", "aux", "l0", "dead_share", "fve_0", "fve_1", "fve_2"}
    assert all(row["l0"] == CONFIG.k for row in log)
    assert all(row["loss"] == pytest.approx(3 - sum(row[f"fve_{m}"] for m in range(3)), rel=0.3) for row in log)


def test_a_latent_that_is_silent_long_enough_is_dead_and_aux_revives_it(rows):
    config = CrosscoderConfig(n_models=3, d_model=8, n_latents=400, k=3)
    logs = {}
    for coefficient in (0.0, 1.0):
        # A learning rate so high that most latents die at once.
        settings = TrainConfig(
            steps=300, batch_size=128, lr=1e-2, dead_after_rows=1280, log_every=5, aux_coefficient=coefficient
        )
        train(rows, config, settings, log=logs.setdefault(coefficient, []))
    for log in logs.values():
        assert all(row["dead_share"] == 0 and row["aux"] == 0 for row in log if row["step"] <= 10)
    assert max(row["dead_share"] for row in logs[1.0]) > 0.4
    assert logs[1.0][-1]["dead_share"] < logs[0.0][-1]["dead_share"] - 0.1
    late = {coefficient: sum(row["loss"] for row in log[-10:]) / 10 for coefficient, log in logs.items()}
    assert late[1.0] < late[0.0] - 0.03  # they came back to some use


@given(
    steps=st.integers(1, 3000),
    warmup=st.floats(0, 1),
    decay=st.floats(0, 1),
)
def test_the_learning_rate_never_leaves_its_bounds(steps, warmup, decay):
    config = TrainConfig(steps=steps, warmup_fraction=warmup, decay_fraction=min(decay, 1 - warmup))
    factors = [lr_factor(step, config) for step in {1, steps // 2 + 1, steps}]
    assert all(0 < factor <= 1 for factor in factors)


def test_the_learning_rate_climbs_stays_and_falls():
    config = TrainConfig(steps=100, warmup_fraction=0.1, decay_fraction=0.2)
    factors = [lr_factor(step, config) for step in range(1, 101)]
    assert factors[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert factors[9:81] == pytest.approx([1.0] * 72)
    assert factors[80:] == pytest.approx([i / 20 for i in range(20, 0, -1)])


def test_a_gradient_longer_than_the_clip_is_shortened(rows, trained):
    tiny = train(rows, CONFIG, SHORT.model_copy(update={"grad_clip": 1e-9}))  # below Adam's epsilon
    start = Crosscoder(CONFIG, SHORT.seed)
    assert (tiny.W_dec - start.W_dec).abs().max() < 0.2 * (trained.W_dec - start.W_dec).abs().max()


def test_divergence_is_said(rows):
    with pytest.raises(InterpError, match=r"the loss is .* lower lr"):
        train(rows, CONFIG, SHORT.model_copy(update={"lr": 1e30}))


def test_refused_rows(rows):
    with pytest.raises(InterpError, match="is not"):
        train(rows[:, :2], CONFIG, SHORT)
    with pytest.raises(InterpError, match="too few"):
        train(rows[:4], CONFIG, SHORT)
    bad = rows.clone()
    bad[5:8, 1, 2] = torch.inf
    with pytest.raises(InterpError, match="3 of 3000"):
        train(bad, CONFIG, SHORT)


def test_a_batch_larger_than_the_rows_is_filled_from_several_epochs(rows):
    log = []
    train(rows[:50], CONFIG, SHORT, log=log)
    assert all(row["l0"] == CONFIG.k for row in log)
