"""`interp steer export`: the direction as a control vector for llama.cpp and its kin."""

from __future__ import annotations

from interp.models.trio import read_model_config
from interp.names import EDITED
from interp.steering.inputs import Inputs, require
from interp.study import Study


def run(study: Study) -> None:
    """Write `direction.gguf`, in which strength s is a dose of s mean residual norms.

    Raises:
        InterpError: no direction, or one that llama.cpp cannot add: of block 0, or of another site than the output.
    """
    require(study, "checkpoints", "traces", "activations")
    inputs = Inputs(study)
    direction = inputs.direction()
    hint = study.config.steering.model_hint or read_model_config(EDITED, inputs.trio.paths[EDITED]).model_type
    path = inputs.file.with_suffix(".gguf")
    direction.export_gguf(path, hint, scale=1.0)
    print(f"steer: {path}: --control-vector-scaled {path.name}:DOSE; llama.cpp adds it everywhere, the prompt included")
    band = direction.provenance.evidence.get("usable_range", {}).get(EDITED, {}).get("everywhere")
    said = f"{band[0]:+g} to {band[1]:+g}" if band else "not measured; run `interp steer dose`"
    print(f"steer: usable range of DOSE in the distilled model, everywhere: {said}")
