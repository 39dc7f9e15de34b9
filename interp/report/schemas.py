"""Columns of the tables that the report reads; those of one model (`rate_distilled`) are looked up as found."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from interp.names import BEHAVIOURS

Schema = Mapping[str, pl.DataType]


TEXT, REAL, WHOLE, TRUTH = pl.String(), pl.Float64(), pl.Int64(), pl.Boolean()
SPANS = pl.List(pl.Struct({"start": WHOLE, "end": WHOLE, "label": TEXT}))


TRAINING: Schema = {"model": TEXT, "step": WHOLE, "metric": TEXT, "value": REAL}

TRACES: Schema = {
    "problem": TEXT,
    "model": TEXT,
    "prompt": TEXT,
    "text": TEXT,
    "answer": TEXT,
    "correct": TRUTH,
    "finished": TRUTH,
    "n_tokens": WHOLE,
    "difficulty": WHOLE,
    "marker_spans": SPANS,
    "behaviour_spans": SPANS,
}

SUMMARY: Schema = {"model": TEXT, "metric": TEXT, "estimate": REAL, "low": REAL, "high": REAL, "refused": TEXT}

NOTICED: Schema = {
    "model": TEXT,
    "measure": TEXT,
    "says": TEXT,
    "n": WHOLE,
    "estimate": REAL,
    "low": REAL,
    "high": REAL,
}

EVIDENCE: Schema = {
    "class": TEXT,
    "what": TEXT,
    "edit": TEXT,
    "model": TEXT,
    "k": WHOLE,
    "margin_untouched": REAL,
    "margin": REAL,
    "onset_untouched": REAL,
    "onset": REAL,
    "false_alarm_untouched": REAL,
    "false_alarm": REAL,
    "kl_negative": REAL,
    "control": TEXT,
    "n_controls": WHOLE,
    "control_mean": REAL,
    "control_low": REAL,
    "control_high": REAL,
    "p": REAL,
}

PATH: Schema = {
    "class": TEXT,
    "component": TEXT,
    "layer": WHOLE,
    "head": WHOLE,
    "effect": REAL,
    "share": REAL,
    "attention": pl.List(REAL),
    "attention_negative": pl.List(REAL),
    "tokens": pl.List(TEXT),
}

HEADS: Schema = {
    "class": TEXT,
    "side": TEXT,
    "layer": WHOLE,
    "head": WHOLE,
    "effect": REAL,
    "tokens": pl.List(TEXT),
    "attention": pl.List(pl.List(REAL)),
}

RECURRENCE: Schema = {
    "class": TEXT,
    "latent": WHOLE,
    "dictionary": WHOLE,
    "partner": WHOLE,
    "cosine": REAL,
    "recurs": TRUTH,
}

SITES: Schema = {
    "model": TEXT,
    "layer": WHOLE,
    "site": TEXT,
    "contrast": TEXT,
    "auroc": REAL,
    "low": REAL,
    "high": REAL,
    "shuffled": REAL,
    "noising": REAL,
    "denoising": REAL,
    "fitted": WHOLE,
    "held_out": WHOLE,
}

READOUT: Schema = {
    "class": TEXT,
    "latent": WHOLE,
    "model": TEXT,
    "fires_positive": REAL,
    "fires_negative": REAL,
    "mean_positive": REAL,
    "mean_negative": REAL,
}

NULLS: Schema = {
    "first": TEXT,
    "second": TEXT,
    "why": TEXT,
    "alive": WHOLE,
    "by_norm": WHOLE,
    "exclusive": WHOLE,
    "fve": REAL,
}

BASELINES: Schema = {"behaviour": TEXT, "what": TEXT, "auroc": REAL, "fitted": WHOLE, "held_out": WHOLE}

LATENTS: Schema = {
    "latent": WHOLE,
    "firing_rate": REAL,
    "decoder_norm": REAL,
    "exclusive_to": TEXT,
    "exclusive_by_norm": TEXT,
    "nu_error_max": REAL,
    "nu_recon_max": REAL,
    "cosine_min": REAL,
    "auroc_marker": REAL,
    "kind": TEXT,
    "inside": REAL,
    "at_own": REAL,
    "at_markers": REAL,
    "at_others": REAL,
    "at_places": REAL,
    "paraphrased": REAL,
} | {
    f"{name}_{behaviour}": TRUTH if name == "confirmed" else REAL
    for behaviour in BEHAVIOURS
    for name in ("auroc", "auroc_confirm", "d", "q", "confirmed")
}

EXAMPLES: Schema = {
    "latent": WHOLE,
    "model": TEXT,
    "rank": WHOLE,
    "tokens": pl.List(TEXT),
    "activations": pl.List(REAL),
    "peak": WHOLE,
    "problem": TEXT,
}

EFFECTS: Schema = {
    "family": TEXT,
    "arm": TEXT,
    "model": TEXT,
    "decoding": TEXT,
    "site": TEXT,
    "layer": WHOLE,
    "head": WHOLE,
    "dose": REAL,
    "outcome": TEXT,
    "untouched": REAL,
    "estimate": REAL,
    "low": REAL,
    "high": REAL,
    "control_mean": REAL,
    "control_low": REAL,
    "control_high": REAL,
    "control_name": TEXT,
    "n_controls": WHOLE,
    "p": REAL,
    "p_holm": REAL,
    "n_problems": WHOLE,
    "fired": WHOLE,
    "coherent": TRUTH,
    "note": TEXT,
}
