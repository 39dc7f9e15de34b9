import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.crosscoder import Crosscoder, CrosscoderConfig, TrainConfig, evaluate, train, train_many
from interp.crosscoder.feeds import open_feed
from interp.crosscoder.trainer import k_at, lr_factor, sparsity_at
from interp.errors import InterpError

from .samples import CONFIG, planted_rows, random_rows

SHORT = TrainConfig(steps=30, batch_size=64, lr=3e-3, log_every=10)


@pytest.fixture(scope="module")
def rows():
    return random_rows(3000)


@pytest.fixture(scope="module")
def trained(rows):
    return train(rows, CONFIG, SHORT)


def held_out(rows):
    return torch.cat(list(open_feed(rows, CONFIG, SHORT).held_out(1000)))


def trained_with_log(rows, config, settings):
    done = train_many(rows, [(config, settings)])[0]
    return done.crosscoder, done.log


def same(a, b, names=("W_enc", "W_dec", "b_enc", "b_dec", "mean", "scale", "threshold")):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


def test_the_same_seed_gives_the_same_bits_whatever_the_global_generator_says(rows, trained):
    torch.manual_seed(123)
    assert same(train(rows, CONFIG, SHORT), trained)
    assert not same(train(rows, CONFIG, SHORT.model_copy(update={"seed": 1})), trained, names=["W_dec"])


def test_fit_lowers_the_loss_and_moves_every_weight(rows):
    crosscoder, log = trained_with_log(rows, CONFIG, SHORT.model_copy(update={"steps": 200}))
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]
    start = train(rows, CONFIG, SHORT.model_copy(update={"steps": 1, "lr": 1e-30}))
    for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
        assert not torch.equal(getattr(crosscoder, name), getattr(start, name)), name


def test_what_is_trained_is_frozen(trained):
    assert not any(weight.requires_grad for weight in trained.parameters())


def test_held_out_rows_touch_the_threshold_and_nothing_else(rows, trained):
    changed = rows.clone()
    is_held_out = (rows[:, None, 0, 0] == held_out(rows)[None, :, 0, 0]).any(1)
    changed[is_held_out] *= 2
    other = train(changed, CONFIG, SHORT)
    assert same(other, trained, names=["W_enc", "W_dec", "b_enc", "b_dec", "mean", "scale"])
    assert other.threshold > trained.threshold


def test_l0_on_held_out_rows_is_k_within_two_percent(rows, trained):
    l0 = evaluate(trained, held_out(rows)).l0
    assert abs(l0 / CONFIG.k - 1) < 0.02


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


def test_the_log_and_the_callback_get_the_same_rows(rows):
    called = []
    settings = SHORT.model_copy(update={"steps": 25})
    log = train_many(rows, [(CONFIG, settings)], on_step=lambda step, row: called.append((step, row[0])))[0].log
    assert [row["step"] for row in log] == [10, 20, 25]
    assert called == [(int(row["step"]), row) for row in log]
    assert log[0].keys() == {"step", "lr", "loss", "aux", "penalty", "l0", "dead_share", "fve_0", "fve_1", "fve_2"}
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
        logs[coefficient] = trained_with_log(rows, config, settings)[1]
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


def test_divergence_in_the_last_step_is_said(rows):
    with pytest.raises(InterpError, match=r"holds NaN or infinite values after step 1; lower lr"):
        train(rows, CONFIG, SHORT.model_copy(update={"lr": 1e39, "steps": 1}))


def test_refused_rows(rows):
    with pytest.raises(InterpError, match="is not"):
        train(rows[:, :2], CONFIG, SHORT)


def test_a_batch_larger_than_the_rows_is_filled_from_several_epochs(rows):
    _, log = trained_with_log(rows[:50], CONFIG, SHORT)
    assert all(row["l0"] == CONFIG.k for row in log)


def test_several_in_one_pass_are_each_as_if_alone(rows):
    wide = CONFIG.model_copy(update={"n_latents": 70, "k": 7})
    other_seed = SHORT.model_copy(update={"seed": 9, "data_seed": 0, "lr": 1e-3})
    pairs = [(CONFIG, SHORT), (wide, SHORT), (CONFIG, other_seed)]
    together = train_many(rows, pairs)
    for pair, done in zip(pairs, together, strict=True):
        alone = train_many(rows, [pair])[0]
        assert same(done.crosscoder, alone.crosscoder)
        assert done.log == alone.log and done.held_out.fve == alone.held_out.fve
    assert not same(together[0].crosscoder, together[2].crosscoder, names=["W_dec"])


@pytest.mark.parametrize(
    ("shape", "recipe", "said"),
    [
        ({}, {"batch_size": 65}, "share batch_size, not 64 and 65"),
        ({}, {"seed": 1}, "share data_seed, not 0 and 1"),
        ({}, {"shuffle_rows": 9}, "share shuffle_rows, not 262144 and 9"),
        ({}, {"outlier_ratio": 9.0}, "share outlier_ratio, not 100.0 and 9.0"),
        ({}, {"steps": 31}, "share steps, not 30 and 31"),
        ({}, {"log_every": 9}, "share log_every, not 10 and 9"),
        ({"d_model": 9}, {}, "share d_model"),
        ({"n_models": 2}, {}, "share n_models"),
    ],
)
def test_crosscoders_that_cannot_share_batches_are_refused(rows, shape, recipe, said):
    other = (CONFIG.model_copy(update=shape), SHORT.model_copy(update=recipe))
    with pytest.raises(InterpError, match=said):
        train_many(rows, [(CONFIG, SHORT), other])


def test_decoders_of_dedicated_latents_stay_exactly_zero_for_other_models(rows):
    config = CONFIG.model_copy(update={"n_dedicated": 5})
    crosscoder, log = trained_with_log(rows, config, SHORT.model_copy(update={"dead_after_rows": 300, "steps": 200}))
    norms = crosscoder.W_dec.norm(dim=2)
    for model in range(3):
        own = config.dedicated(model)
        assert own == slice(25 + 5 * model, 30 + 5 * model)
        assert (norms[own, model] > 0).all()
        assert int((norms[own] > 0).sum()) == 5
    assert (norms[:25] > 0).all()
    assert log[-1]["loss"] < log[0]["loss"]


def test_frozen_decoders_keep_their_bits_and_the_rest_learns(rows):
    frozen = SHORT.model_copy(update={"freeze_decoder": True})
    crosscoder, log = trained_with_log(rows, CONFIG, frozen)
    assert torch.equal(crosscoder.W_dec, Crosscoder(CONFIG, frozen.seed).W_dec)
    assert not torch.equal(crosscoder.W_enc, Crosscoder(CONFIG, frozen.seed).W_enc)
    assert log[-1]["loss"] < log[0]["loss"]


@pytest.mark.parametrize("activation", ["topk", "jumprelu", "relu"])
def test_the_other_gates_train_too(activation):
    rows, has_k = planted_rows(3000), activation == "topk"
    config = CrosscoderConfig(n_models=3, d_model=24, n_latents=60, k=4 if has_k else None, activation=activation)
    settings = SHORT.model_copy(update={"steps": 500, "lr": 1e-2, "sparsity": 0.0 if has_k else 0.1})
    done = train_many(rows, [(config, settings)])[0]
    assert done.log[-1]["loss"] < 0.6 * done.log[0]["loss"]
    if has_k:
        assert 2 < done.held_out.l0 <= 4  # some rows have fewer positive activations
    else:
        looser = train_many(rows, [(config, settings.model_copy(update={"sparsity": 0.003}))])[0]
        assert done.held_out.l0 < 0.85 * looser.held_out.l0
        assert min(looser.held_out.fve) > max(done.held_out.fve)


def test_settings_that_would_do_nothing_are_refused(rows):
    relu = CrosscoderConfig(n_models=3, d_model=8, n_latents=40, activation="relu")
    for config, change, said in (
        (CONFIG, {"sparsity": 0.1}, "sparsity=0.1 does nothing"),
        (relu, {}, "needs a sparsity penalty"),
        (relu, {"sparsity": 0.1, "k_start": 9}, "k_start=9 does nothing"),
    ):
        with pytest.raises(InterpError, match=said):
            train(rows, config, SHORT.model_copy(update=change))


def test_k_goes_from_its_start_to_its_end(rows):
    settings = SHORT.model_copy(update={"k_start": 12, "steps": 40, "k_anneal_fraction": 0.5, "log_every": 1})
    assert [k_at(step, CONFIG, settings) for step in (1, 11, 21, 40)] == [12, 8, 4, 4]
    _, log = trained_with_log(rows, CONFIG, settings)
    assert [log[step - 1]["l0"] for step in (1, 11, 21, 40)] == [12, 8, 4, 4]


def test_the_penalty_climbs_to_its_weight():
    settings = TrainConfig(steps=100, sparsity=0.5, sparsity_warmup_fraction=0.1)
    assert [sparsity_at(step, settings) for step in (1, 5, 10, 100)] == pytest.approx([0.05, 0.25, 0.5, 0.5])


def test_initialisations_differ_as_they_say(rows):
    start = {
        (shared, transposed): train(
            rows, CONFIG, SHORT.model_copy(update={"lr": 1e-30, "shared_init": shared, "transposed_init": transposed})
        )
        for shared in (1.0, 0.5, 0.0)
        for transposed in (True, False)
    }
    for (shared, transposed), crosscoder in start.items():
        models = crosscoder.W_dec.unbind(1)
        alike = (models[0] - models[1]).abs().amax(1) < 1e-5
        assert alike.tolist() == [j < 40 * shared for j in range(40)], "the first latents are those that start alike"
        assert torch.allclose(crosscoder.encoder, crosscoder.decoder) == transposed
        torch.testing.assert_close(models[0].norm(dim=1), torch.full((40,), 3**-0.5))


def test_a_bf16_encoder_trains_as_well_and_keeps_fp32_weights(rows):
    settings = SHORT.model_copy(update={"steps": 200})
    exact, rounded = (
        train_many(rows, [(CONFIG, settings.model_copy(update={"encoder_dtype": dtype}))])[0]
        for dtype in ("float32", "bfloat16")
    )
    assert {p.dtype for p in rounded.crosscoder.parameters()} == {torch.float32}
    assert not same(exact.crosscoder, rounded.crosscoder, names=["W_dec"])
    for a, b in zip(exact.held_out.fve, rounded.held_out.fve, strict=True):
        assert a == pytest.approx(b, abs=0.01)


def test_what_is_published_is_measured_on_rows_held_out(rows):
    done = train_many(rows, [(CONFIG, SHORT)])[0]
    wanted = evaluate(done.crosscoder, held_out(rows))
    assert done.held_out.fve == pytest.approx(wanted.fve) and done.held_out.n_rows == wanted.n_rows == 600
