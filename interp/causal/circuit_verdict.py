"""The verdict through the circuit: the same table of removals, read from arms on the latents of the decision.

What the latents do not remove is taken from the edits of text: the style where the wording is no choice that can be
read, the function where nothing decides to check, or where the markers that are put in instead of the model's own do
harm. `read_from` names the arms. Where no latents are located at all there is no verdict through them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from interp.causal.arms import CIRCUIT, FUNCTION, REMOVALS
from interp.causal.circuit_arms import AT_FORKS, evidence_name
from interp.causal.runs import Runs
from interp.causal.setting import SAMPLED
from interp.causal.verdict import NO_GAIN, TRAINING, UNDETERMINED, Verdict
from interp.features.circuit import DECIDING, OF_THE_DECISION
from interp.names import EDITED


def text_runs(runs: Runs) -> Runs:
    """Without the arms on the latents of the decision: what the verdict by edits of text is read from."""
    return runs.only(name for name, about in runs.arms.items() if about["family"] != CIRCUIT)


def circuit_runs(runs: Runs) -> Runs:
    """Of each removal the arms on latents, and those on text where there are none on latents; of the function both,
    since markers that are put in may do harm: what fails its checks is not read."""
    claimed = {name: about for name, about in runs.arms.items() if about["claim"] in REMOVALS}
    kept = []
    for claim in REMOVALS:
        mine = [name for name, about in claimed.items() if about["claim"] == claim]
        through = [name for name in mine if claimed[name]["family"] == CIRCUIT]
        kept += mine if claim == FUNCTION else through or mine
    return runs.only(kept)


def circuit_json(
    rows: Sequence[Mapping[str, Any]], located: Mapping[str, Any], text: Verdict, circuit: Verdict
) -> dict[str, Any]:
    """`verdict.json["circuit"]`.

    Args:
        rows: of the effects, before p is adjusted.
        located: `features/circuit.json`.
        text: the verdict by edits of text.
        circuit: the verdict of `circuit_runs`.
    """
    classes = {name: found for name, found in located.items() if name != "site"}
    latents = {name: list(found["latents"]) for name, found in classes.items()}
    anywhere = is_located(located)
    word, reason = through(circuit, located=anywhere)
    return {
        "site": located["site"],
        "latents": latents,
        "located": anywhere,
        "why": "; ".join(f"{name}: {found['why']}" for name, found in classes.items()),
        **_repairs(rows),
        "verdict": word,
        "verdict_why": reason,
        "read_from": dict(circuit.read_from) if anywhere else {},
        "agrees": word == text.verdict,
    }


def is_located(located: Mapping[str, Any]) -> bool:
    """Whether `features/circuit.json` holds latents of the decision."""
    return any(located[name]["latents"] for name in OF_THE_DECISION if name in located)


def through(circuit: Verdict, *, located: bool) -> tuple[str, str]:
    """(word, reason) of the verdict through the circuit: there is none where nothing is located and there is a gain."""
    if not located and circuit.verdict not in (NO_GAIN, TRAINING):
        return UNDETERMINED, "No latents of the decision are located."
    return circuit.verdict, circuit.why


def _repairs(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`repairs`: share of the wrong steps that are repaired, untouched and with the deciding latents set back where
    the decision is made, with the 95 % interval of the latter (the untouched share being held fixed);
    `matched_controls`: the same share under matched latents. None where no latents decide or the share is refused."""
    row = next((r for r in rows if _is_evidence(r)), None)
    if row is None or row["estimate"] is None:
        return {"repairs": None, "matched_controls": None}
    was = row["untouched"]
    low, high = (min(1.0, max(0.0, was + row[edge])) for edge in ("low", "high"))
    repairs = {"untouched": was, "ablated": was + row["estimate"], "low": low, "high": high}
    if not row.get("n_controls"):
        return {"repairs": repairs, "matched_controls": None}
    controls = {key: was + row[f"control_{key}"] for key in ("mean", "low", "high")}
    return {"repairs": repairs, "matched_controls": {"n": row["n_controls"], **controls, "p": row["p"]}}


def _is_evidence(row: Mapping[str, Any]) -> bool:
    return (
        row["family"] == CIRCUIT
        and row["arm"] == evidence_name(DECIDING, AT_FORKS)
        and (row["outcome"], row["model"], row["decoding"]) == ("verification_rate", EDITED, SAMPLED)
    )
