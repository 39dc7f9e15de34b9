import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from interp.config import StudyConfig, check_config, load_config
from interp.errors import InterpError

OWN = "checkpoints: {base: a, distilled: b, zero_rl: c}"
EXAMPLES = sorted((Path(__file__).parents[1] / "experiments" / "configs").glob("*.yaml"))


def written(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return path


def refusal(tmp_path, text):
    with pytest.raises(InterpError) as caught:
        load_config(written(tmp_path, text))
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / "study.yaml") in message
    return message


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_the_configs_that_we_ship_are_read(path):
    assert load_config(path).name


def test_an_empty_file_is_all_defaults(tmp_path):
    assert load_config(written(tmp_path, "")) == StudyConfig()


def test_what_is_dumped_is_what_is_read(tmp_path):
    changed = check_config(
        {"seed": 3, "causal": {"doses": [-1, 2.5]}, "crosscoder": {"shape": {"k": 5}, "train": {"lr": "1e-3"}}}, "here"
    )
    dumped = yaml.safe_dump(changed.model_dump(mode="json"))
    assert load_config(written(tmp_path, dumped)) == changed
    assert changed.crosscoder.train.lr == 1e-3


@pytest.mark.parametrize(
    ("text", "key", "suggested"),
    [
        ("crosscodr: {k: 3}", "crosscodr", "crosscoder"),
        ("crosscoder: {shape: {n_latent: 3}}", "crosscoder.shape.n_latent", "n_latents"),
        ("crosscoder: {train: {warm_up_fraction: 0}}", "crosscoder.train.warm_up_fraction", "warmup_fraction"),
        ("organism: {pretraining: {step: 3}}", "organism.pretraining.step", "steps"),
        ("causal: {control: 30}", "causal.control", "controls"),
        ("sed: 3", "sed", "seed"),
    ],
)
def test_a_misspelt_key_is_named_with_the_nearest_one(tmp_path, text, key, suggested):
    message = refusal(tmp_path, text)
    assert f"'{key}'" in message
    assert f"did you mean {suggested!r}?" in message


def test_a_key_like_no_other_lists_those_there_are(tmp_path):
    message = refusal(tmp_path, "task: {zzzzzz: 1}")
    assert "data_set, kind, options, terms" in message


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("crosscoder: {shape: {k: many}}", "crosscoder.shape.k", "'many'"),
        ("crosscoder: {shape: {k: 0}}", "crosscoder.shape.k", "0"),
        ("crosscoder: {shape: {k: 1.5}}", "crosscoder.shape.k", "1.5"),
        ("organism: {kind: decoratve}", "organism.kind", "'decoratve'"),
        ("causal: {controls: 5}", "causal.controls", "5"),
        ("causal: {doses: [1, x]}", "causal.doses.1", "'x'"),
        ("traces: 7", "traces", "7"),
        ("traces:", "traces", "None"),
        ("device: tpu", "device", "'tpu'"),
        ("crosscoder: {train: {lr: .inf}}", "crosscoder.train.lr", "inf"),
        ("causal: {doses: [.nan]}", "causal.doses.0", "nan"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(tmp_path, text, key, value):
    message = refusal(tmp_path, text)
    assert f"{key} = {value}: " in message


def test_the_allowed_values_are_named(tmp_path):
    message = refusal(tmp_path, "organism: {kind: decoratve}")
    for kind in ("functional", "decorative", "gated", "plain"):
        assert kind in message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("crosscoder: {shape: {k: 900, n_latents: 800}}", ("crosscoder.shape: k=900", "n_latents=800")),
        ("crosscoder: {shape: {n_dedicated: 300}}", ("n_dedicated=300 for 3 models", "n_latents=768")),
        ("crosscoder: {shape: {activation: relu}}", ("k=12", "activation=relu")),
        ("crosscoder: {shape: {activation: relu, k: null}}", ("activation=relu", "sparsity penalty")),
        ("crosscoder: {train: {sparsity: 0.1}}", ("sparsity=0.1", "k decides")),
        ("crosscoder: {train: {warmup_fraction: 0.9, decay_fraction: 0.9}}", ("warmup_fraction=0.9", "overlap")),
        ("organism: {zero_rl: {completions: 100, group_size: 8}}", ("group_size = 8", "completions = 100")),
        ("organism: {distillation: {batch_size: 6, micro_batch: 4}}", ("micro_batch = 4", "batch_size = 6")),
        ("organism: {d_model: 96, n_heads: 7}", ("n_heads = 7", "d_model = 96")),
        ("organism: {d_model: 96, n_heads: 32}", ("n_heads = 32", "d_model = 96")),
        ("checkpoints: {base: a, distilled: b}", ("checkpoints.zero_rl",)),
        ("checkpoints: {control: a}", ("checkpoints.base",)),
        ("traces: {prompt: 'Solve it.'}", ("traces.prompt", "{question}")),
        (
            "task: {kind: gsm8k}",
            (
                "task.kind = gsm8k",
                "on chains or prose_sums or tracking or lists only",
                "checkpoints",
            ),
        ),
        (f"{OWN}\ntask: {{kind: reasoning_gym}}", ("task.kind = reasoning_gym", "task.data_set is missing")),
        (f"{OWN}\ntask: {{kind: aime, data_set: gcd}}", ("task.kind = aime", "task.data_set", "do nothing")),
        ("task: {options: {min_terms: 2}}", ("task.kind = chains", "task.options do nothing")),
        (
            f"{OWN}\ntask: {{kind: math500}}\ntraces: {{file: a.jsonl}}",
            ("task.kind = math500", "traces.file = a.jsonl"),
        ),
    ],
)
def test_impossible_combinations_are_refused(tmp_path, text, named):
    """Among them heads of width 3: rotary positions turn pairs."""
    message = refusal(tmp_path, text)
    for part in named:
        assert part in message


def test_every_field_of_the_engines_configs_can_be_set(tmp_path):
    """And nothing is between: what the file says is what the engine gets."""
    from interp.crosscoder.config import DictionaryConfig, TrainConfig

    text = "crosscoder: {shape: {n_dedicated: 2}, train: {k_start: 30, k_aux: 4, grad_clip: 0.5, data_seed: 9}}"
    section = load_config(written(tmp_path, text)).crosscoder
    assert set(type(section.shape).model_fields) == set(DictionaryConfig.model_fields)
    assert set(type(section.train).model_fields) == set(TrainConfig.model_fields)
    recipe, *others = section.recipes(seed=5, n_rows=700)
    assert section.shape.between(3, 16).n_dedicated == 2
    assert (recipe.k_start, recipe.k_aux, recipe.grad_clip, recipe.data_seed) == (30, 4, 0.5, 9)
    assert (recipe.seed, recipe.batch_size, recipe.steps) == (5, 700, section.train.steps)
    assert [other.seed for other in others] == [6, 7]
    assert {other.data_order_seed for other in others} == {9}, "all read the same batches"
    section = check_config({"crosscoder": {"dictionaries": 2, "train": {"seed": 3}}}, "here").crosscoder
    assert [(one.seed, one.data_order_seed) for one in section.recipes(5, 10**6)] == [(3, 3), (4, 3)]


def test_own_checkpoints_can_be_measured_on_any_task(tmp_path):
    text = f"{OWN}\ntask: {{kind: reasoning_gym, data_set: chain_sum, options: {{min_terms: 2}}}}"
    assert load_config(written(tmp_path, text)).task.options == {"min_terms": 2}
    assert load_config(written(tmp_path, f"{OWN}\ntask: {{kind: gsm8k}}")).task.kind == "gsm8k"


def test_files_that_are_no_configs(tmp_path):
    missing = tmp_path / "none.yaml"
    with pytest.raises(InterpError, match=re.escape(str(missing))):
        load_config(missing)
    with pytest.raises(InterpError, match=re.escape(str(tmp_path))):
        load_config(tmp_path)
    assert "not YAML" in refusal(tmp_path, "a: [1, 2\nb: }")
    assert "mapping" in refusal(tmp_path, "- 1\n- 2\n")
    assert refusal(tmp_path, "1: 2\n")


def test_a_binary_file_is_no_config(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_bytes(b"PAR1\x00\xff\xfe\x80")
    with pytest.raises(InterpError, match="not YAML"):
        load_config(path)


def fields(model: type[BaseModel], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, field in model.model_fields.items():
        found.append((f"{prefix}{name}", field))
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += fields(field.annotation, f"{prefix}{name}.")
    return found


@pytest.mark.parametrize(("key", "field"), fields(StudyConfig), ids=lambda v: v if isinstance(v, str) else "")
def test_every_key_is_explained_in_a_sentence(key, field):
    assert field.description, key
    assert field.description[0].isupper() and field.description.rstrip().endswith("."), key


def test_a_config_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        StudyConfig().seed = 3
