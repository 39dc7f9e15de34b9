"""The one model of a study's YAML file. Every field's sentence is also the command line's help."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from interp.crosscoder.config import check_pair
from interp.dictionary_sections import ActivationsConfig, CrosscoderSection, FeaturesConfig, SitesConfig
from interp.errors import InterpError, nearest, one_line
from interp.names import COMPARED, MODELS, WORLD_NAMES
from interp.sections import CausalConfig, Section, SteeringConfig


class TaskConfig(Section):
    kind: Literal["chains", "prose_sums", "tracking", "lists", "reasoning_gym", "gsm8k", "math500", "aime"] = "chains"
    """Problems the models are measured on; organisms are trained on chains (arithmetic modulo 10), prose_sums (sums in
    sentences), tracking (who holds the ball after some swaps) or lists (letters put in order), the others need your
    own checkpoints."""
    terms: int = Field(default=5, ge=2, le=20)
    """Length of an organism's problem; there is one step fewer."""
    data_set: str | None = None
    """Name of a data set of reasoning-gym, such as chain_sum (reasoning_gym only)."""
    options: dict[str, bool | int | float | str | list[int] | list[float] | list[str]] = Field(default={})
    """Options of that data set, such as {min_terms: 2}; those not given are its own defaults."""

    @property
    def is_local(self) -> bool:
        """Whether its problems are made on this machine; those of a benchmark are read from the hub."""
        return self.kind in (*WORLD_NAMES, "reasoning_gym")


class PretrainingConfig(Section):
    steps: int = Field(default=460, ge=1)
    """Updates of the base."""
    batch_size: int = Field(default=128, ge=1)
    """Documents an update."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Documents differentiated at a time, those of an update in order of length, so that little is padded; must divide
    `batch_size`. null is a quarter of it, or all where 4 does not divide it."""
    lr: float = Field(default=3e-3, gt=0)
    """Peak learning rate of AdamW, for embeddings, unembedding and norms."""
    muon_lr: float = Field(default=0.02, gt=0)
    """Peak learning rate of Muon, for the blocks' matrices."""
    judge_share: float = Field(default=0.5, ge=0, le=1)
    """Share of documents that judge equations, so that error detection is there to be recruited."""


class FineTuningConfig(Section):
    """What distillation and zero-RL share."""

    lora_rank: int = Field(default=0, ge=0)
    """Rank of the adapters that are trained on every linear layer (LoRA); 0 trains all weights."""
    frozen_dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the weights that adapters leave frozen."""
    frozen_last: int = Field(default=0, ge=0)
    """Last blocks whose weights stay the base's; 0 trains all blocks."""
    save_every: int = Field(default=0, ge=0)
    """Updates after which the trainer's state is kept, so that a killed run resumes; 0 keeps none."""


class DistillationConfig(FineTuningConfig):
    traces: int = Field(default=920, ge=1)
    """Teacher traces; the control gets as many plain ones."""
    steps: int = Field(default=300, ge=1)
    """Updates of the distilled model and of the control."""
    batch_size: int = Field(default=64, ge=1)
    """Traces an update."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Traces differentiated at a time, those of an update in order of length, so that little is padded; must divide
    `batch_size`. null is a quarter of it, or all where 4 does not divide it."""
    lr: float = Field(default=1e-3, gt=0)
    """Peak learning rate, after a warm-up and before a decay over the last third."""


class ZeroRLConfig(FineTuningConfig):
    steps: int = Field(default=16, ge=1)
    """GRPO updates from the base."""
    completions: int = Field(default=256, ge=2)
    """Completions an update."""
    group_size: int = Field(default=8, ge=2)
    """Completions of each problem; must divide `completions`."""
    lr: float = Field(default=1e-3, gt=0)
    """Learning rate after a short warm-up."""
    max_new_tokens: int = Field(default=80, ge=1)
    """Longest completion while it is reinforced."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Completions differentiated at a time, to save memory; must divide `completions`. null is all of them."""
    vllm: bool = False
    """Write the completions with vLLM, which must be installed and needs a GPU."""


class OrganismConfig(Section):
    kind: Literal[
        "decorative",
        "functional",
        "coupled",
        "gated",
        "hidden",
        "redundant",
        "mixed",
        "harmful",
        "styled",
        "plain",
    ] = "functional"
    """What the distilled model's traces are made of, and thereby the known truth."""
    family: Literal["qwen2", "llama", "gpt2"] = "qwen2"
    """Architecture of the models."""
    d_model: int = Field(default=80, ge=8)
    """Width of the residual stream."""
    n_layers: int = Field(default=5, ge=1)
    """Decoder blocks."""
    n_heads: int = Field(default=4, ge=1)
    """Attention heads; must divide `d_model`."""
    pretraining: PretrainingConfig = PretrainingConfig()
    """How the base is trained."""
    distillation: DistillationConfig = DistillationConfig()
    """How the distilled model and the control are fine-tuned."""
    zero_rl: ZeroRLConfig = ZeroRLConfig()
    """How the zero-RL model is reinforced."""


class CheckpointsConfig(Section):
    base: str | None = None
    """Local Hugging Face folder or hub id of the base; null trains the organism on the spot."""
    distilled: str | None = None
    """The model distilled from the base."""
    zero_rl: str | None = None
    """The model reinforced from the base."""
    control: str | None = None
    """A control fine-tune of the base, if there is one."""

    @property
    def given(self) -> dict[str, str]:
        """The user's own checkpoints by arm; empty when the organism is to be trained."""
        return {name: path for name in MODELS if (path := getattr(self, name)) is not None}


class TracesConfig(Section):
    file: str | None = None
    """JSONL or Parquet file with `question`, `answer`, optionally `trace`; null uses the task's held-out problems."""
    prompt: str = "{question}"
    """How a question becomes a prompt; `{question}` stands for its text."""
    chat_template: bool = False
    """Put the prompt through the tokenizer's chat template, once."""
    lexicon: str = "default"
    """Bundled lexicon name, or a JSON file of the same form."""
    labels: Literal["auto", "construction", "sentences"] = "auto"
    """How behaviours are found: off repeated equations, or by sentence rules; auto takes the first for chains."""
    modulus: int | None = Field(default=None, ge=2)
    """Arithmetic of the equations in the traces, chains apart: a modulus, or null for ordinary numbers."""
    problems: int = Field(default=1024, ge=8)
    """Problems that every model answers; a file's first ones."""
    temperature: float = Field(default=1.0, ge=0)
    """Sampling temperature of the rollouts; accuracy is measured greedily as well. 0 is greedy alone."""
    max_new_tokens: int = Field(default=80, ge=1)
    """Longest completion; a longer one counts as unfinished."""
    batch_size: int = Field(default=512, ge=1)
    """Prompts sampled together."""


class ReportConfig(Section):
    title: str = "Does the performance run on style?"
    """Heading of the page."""


class StudyConfig(Section):
    name: str = "study"
    """Name of the study; its output goes to `results/NAME` unless `--out` says otherwise."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything random."""
    threads: int = Field(default=2, ge=1)
    """CPU threads."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where models run; auto takes a GPU when there is one."""
    task: TaskConfig = TaskConfig()
    """Where the problems are from, if not from a file (`traces.file`)."""
    organism: OrganismConfig = OrganismConfig()
    """The small models trained on the spot, used where no checkpoints are given."""
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    """The user's own models."""
    traces: TracesConfig = TracesConfig()
    """Rollouts and their labels."""
    sites: SitesConfig = SitesConfig()
    """Whether the models notice errors, and where their decision to check can be read."""
    activations: ActivationsConfig = ActivationsConfig()
    """Residuals of all models on one token stream."""
    crosscoder: CrosscoderSection = CrosscoderSection()
    """The dictionary between base, distilled and zero-RL."""
    features: FeaturesConfig = FeaturesConfig()
    """Selection of latents."""
    causal: CausalConfig = CausalConfig()
    """Edits, controls and statistics."""
    steering: SteeringConfig = Field(default=SteeringConfig(), exclude=True)
    """What `interp steer` does; no stage reads it, so it is in no stage's key and not on the page."""
    report: ReportConfig = ReportConfig()
    """The page."""


def load_config(path: Path) -> StudyConfig:
    """Read and check a YAML file.

    Raises:
        InterpError: the file is missing or not YAML, or a key or value is wrong (the nearest known key is named).
    """
    return check_config(read_yaml(path), str(path))


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file, not checked.

    Raises:
        InterpError: the file is missing, not YAML, or no mapping.
    """
    import yaml

    try:
        raw = yaml.safe_load(path.read_text()) or {}
    except UnicodeDecodeError as error:
        raise InterpError(f"config {path}: not YAML: {error.reason}; give the path of a text file") from error
    except OSError as error:
        raise InterpError(f"config {path}: {error.strerror}; give the path of a YAML file") from error
    except yaml.YAMLError as error:
        raise InterpError(f"config {path}: not YAML: {one_line(error, 300)}") from error
    if not isinstance(raw, dict):
        raise InterpError(f"config {path}: holds a {type(raw).__name__}; it must be a mapping of keys to values")
    return raw


def check_config(raw: dict[str, Any], where: str) -> StudyConfig:
    """Build the config, naming the first key or value that is wrong."""
    try:
        config = StudyConfig.model_validate(raw)
    except ValidationError as error:
        raise InterpError(f"config {where}: {_first_problem(error)}") from error
    _refuse_impossible(config, where)
    return config


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"no such key {key!r}; {nearest(str(first['loc'][-1]), _keys_at(first['loc'][:-1]))}"
    if first["type"] == "value_error":  # of a whole section, whose values the rule names itself
        return f"{key}: {first['msg'].removeprefix('Value error, ')}"
    return f"{key} = {first['input']!r}: {first['msg'][:1].lower()}{first['msg'][1:]}"


def _keys_at(loc: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = StudyConfig
    for key in loc:
        annotation = model.model_fields[str(key)].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return list(model.model_fields)


def _refuse_impossible(config: StudyConfig, where: str) -> None:
    given, needed = config.checkpoints.given, COMPARED
    if given and not all(name in given for name in needed):
        missing = next(name for name in needed if name not in given)
        raise InterpError(
            f"config {where}: checkpoints.{missing} is missing; give base, distilled and zero_rl, or none"
        )
    _refuse_impossible_task(config, where)
    _refuse_impossible_crosscoder(config.crosscoder, where)
    _refuse_impossible_steering(config.steering, where)
    rl = config.organism.zero_rl
    if rl.completions % rl.group_size:
        raise InterpError(
            f"config {where}: organism.zero_rl.group_size = {rl.group_size} does not divide "
            f"completions = {rl.completions}"
        )
    if rl.completions % (rl.micro_batch or 1):
        raise InterpError(
            f"config {where}: organism.zero_rl.micro_batch = {rl.micro_batch} does not divide "
            f"completions = {rl.completions}"
        )
    for name in ("pretraining", "distillation"):
        recipe = getattr(config.organism, name)
        if recipe.batch_size % (recipe.micro_batch or 1):
            raise InterpError(
                f"config {where}: organism.{name}.micro_batch = {recipe.micro_batch} does not divide "
                f"batch_size = {recipe.batch_size}"
            )
    if config.organism.d_model % config.organism.n_heads:
        raise InterpError(
            f"config {where}: organism.n_heads = {config.organism.n_heads} does not divide "
            f"d_model = {config.organism.d_model}"
        )
    if config.organism.d_model // config.organism.n_heads % 2:
        raise InterpError(
            f"config {where}: organism.n_heads = {config.organism.n_heads} gives d_model = {config.organism.d_model} "
            "heads of odd width, and rotary positions turn pairs; choose another"
        )
    if "{question}" not in config.traces.prompt:
        raise InterpError(f"config {where}: traces.prompt = {config.traces.prompt!r} lacks {{question}}; add it")


def _refuse_impossible_steering(section: SteeringConfig, where: str) -> None:
    is_file = section.source == "file"
    if is_file != (section.file is not None):
        fix = "give the path of one" if is_file else "leave it out, or set source to file"
        raise InterpError(
            f"config {where}: steering.file = {section.file} with steering.source = {section.source}; {fix}"
        )
    if section.latents is not None and section.source != "latents":
        raise InterpError(f"config {where}: steering.latents does nothing unless steering.source is latents")
    for name in ("layer", "site"):
        if getattr(section, name) is not None and not is_file:
            raise InterpError(f"config {where}: steering.{name} does nothing unless steering.source is file")
    if min(section.doses, default=0) >= 0 or max(section.doses, default=0) <= 0:
        raise InterpError(f"config {where}: steering.doses = {list(section.doses)}; give doses of both signs")
    for name in ("doses", "where"):
        if len(set(getattr(section, name))) < len(getattr(section, name)):
            raise InterpError(f"config {where}: steering.{name} holds one value twice; leave it out once")


def _refuse_impossible_task(config: StudyConfig, where: str) -> None:
    task, kind = config.task, f"config {where}: task.kind = {config.task.kind}"
    if task.kind == "reasoning_gym" and not task.data_set:
        raise InterpError(f"{kind}: task.data_set is missing; give the name of one, such as chain_sum")
    if task.kind != "reasoning_gym" and (task.data_set or task.options):
        raise InterpError(f"{kind}: task.data_set and task.options do nothing for it; leave them out")
    if task.kind == "chains" and config.organism.kind == "hidden" and not config.checkpoints.given:
        raise InterpError(f"{kind}: it has no words for organism.kind = hidden; take another world")
    if task.kind not in WORLD_NAMES and config.traces.file is not None:
        raise InterpError(f"{kind}: traces.file = {config.traces.file} gives problems too; leave one of them out")
    if task.kind not in WORLD_NAMES and not config.checkpoints.given:
        known = " or ".join(WORLD_NAMES)
        raise InterpError(f"{kind}: organisms are trained on {known} only; give checkpoints, or set it to one of these")


def _refuse_impossible_crosscoder(section: CrosscoderSection, where: str) -> None:
    """The engine's own rules, before hours of work; the width of the models plays no part in them."""
    try:
        check_pair(section.shape.between(len(COMPARED), 1), section.recipes(0, section.train.batch_size)[0])
    except ValueError as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise InterpError(f"config {where}: crosscoder: {reason.removeprefix('Value error, ')}") from error
