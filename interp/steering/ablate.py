"""`interp steer ablate`: the direction projected out where it is there, and added where it is not; one table."""

from __future__ import annotations

import polars as pl
import torch

from interp.causal.effects import table
from interp.names import EDITED
from interp.steering.arms import Controls, ablation_arms
from interp.steering.dose import all_runs, coherence_of, that_occur
from interp.steering.inputs import Inputs, require
from interp.steering.response import all_effects, failed
from interp.steering.tables import markdown
from interp.study import Study

REMOVED, ADDED = (EDITED, "zero_rl"), ("base",)
"""Models out of which the direction is projected, and those in which it is added."""


def run(study: Study) -> None:
    """Write `ablation_runs/`, `ablation.parquet` and `table.md`, and print the table."""
    config, section = study.config, study.config.steering
    require(study, "checkpoints", "traces", "activations")
    inputs = Inputs(study)
    torch.set_num_threads(config.threads)
    direction = inputs.direction()
    controls = Controls.of(direction, inputs.residual(direction.layer, direction.site), section, config.seed)
    skip = config.activations.skip_first
    arms = {
        where: ablation_arms(direction, where, REMOVED, ADDED, section.addition, skip, controls)
        for where in section.where
    }
    setting = inputs.setting
    reached = that_occur(arms, setting, inputs, "ablation_runs")
    everything = [arm for group in reached.values() for arm in group]
    runs = all_runs(everything, setting, inputs, "ablation_runs", (*REMOVED, *ADDED))
    coherence = coherence_of(runs, setting)
    guard = config.causal.coherence
    wrong = failed(runs, coherence, guard)
    rows = all_effects(runs, section.controls, coherence, wrong, guard, config.causal.resamples, config.seed)
    effects = table(rows)
    effects.write_parquet(inputs.folder / "ablation.parquet")
    doses = inputs.folder / "effects.parquet"
    ranges = direction.provenance.evidence.get("usable_range", {}) if doses.is_file() else {}
    beside = pl.read_parquet(doses, glob=False) if ranges else None
    text = markdown(effects, beside, ranges.get(EDITED, {}))
    (inputs.folder / "table.md").write_text(text)
    print(text)
    print(f"steer: {inputs.folder / 'table.md'}")
