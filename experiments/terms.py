"""The terms of a comparison: what each trainer does in its own way, and which of it is equal."""

TERMS: dict[str, dict[str, str]] = {
    "interp": {
        "gate": "BatchTopK, activation times decoder norm",
        "decoder norm": "free",
        "initial weights": "random; encoder the transpose of the decoder, which is equal for all models",
        "decoder bias starts at": "0 (the rows are centred)",
        "gradient": "2-norm at most 1",
        "AuxK's weight": "1/32",
        "AuxK's weight with fewer dead latents than it takes per row": "the same",
        "AuxK's loss": "mean square, as the main loss",
        "AuxK's latents per row": "half the width of one model",
        "AuxK trains": "encoder and decoder",
        "dead after is set by": "an option (100,000 rows)",
        "k is annealed by": "an option (off)",
    },
    "dictionary-learning": {
        "gate": "BatchTopK, activation",
        "decoder norm": "1",
        "initial weights": "random; encoder the transpose of the decoder",
        "decoder bias starts at": "geometric median of the first batch",
        "gradient": "2-norm at most 1",
        "AuxK's weight": "1/32",
        "AuxK's weight with fewer dead latents than it takes per row": "the same",
        "AuxK's loss": "divided by the residual's variance (the main loss is not)",
        "AuxK's latents per row": "half the width of all models",
        "AuxK trains": "encoder and decoder",
        "dead after is set by": "an attribute (10,000,000 rows)",
        "k is annealed by": "this script (no option in 0.1.0; k_anneal_steps on its main branch starts at the width)",
    },
    "sae-lens": {
        "gate": "BatchTopK, activation times decoder norm",
        "decoder norm": "free",
        "initial weights": "random; encoder the transpose of the decoder, whose norms are .1",
        "decoder bias starts at": "0 (the rows are centred)",
        "gradient": "2-norm at most 1",
        "AuxK's weight": "1",
        "AuxK's weight with fewer dead latents than it takes per row": "in proportion to them",
        "AuxK's loss": "mean square, as the main loss",
        "AuxK's latents per row": "half the width of all models",
        "AuxK trains": "encoder and decoder",
        "dead after is set by": "an option (1,000 batches)",
        "k is annealed by": "this script (no option)",
    },
    "sparsify": {
        "gate": "TopK of each row, activation",
        "decoder norm": "1",
        "initial weights": "random; decoder a copy of the encoder, scaled to norm 1",
        "decoder bias starts at": "mean of the first batch",
        "gradient": "not clipped",
        "AuxK's weight": "1/32 (its default is 0)",
        "AuxK's weight with fewer dead latents than it takes per row": "in proportion to them",
        "AuxK's loss": "divided by the rows' variance, as the main loss",
        "AuxK's latents per row": "half the width of all models",
        "AuxK trains": "the decoder alone (its fused encoder passes no gradient of AuxK back)",
        "dead after is set by": "an option (10,000,000 rows)",
        "k is annealed by": "an option, k_decay_steps (off; starts at ten times the width, at most all latents)",
    },
}
"""Read from the source of interp, dictionary-learning 0.1.0, sae-lens 6.54.12 and eai-sparsify 1.3.3. The keys are the
first words of the names in `contestants.CONTESTANTS`."""


def split_terms(terms: dict[str, dict[str, str]]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """(terms that all trainers share, terms that differ with the value of each trainer), from the terms of each."""
    names = dict.fromkeys(name for own in terms.values() for name in own)
    rows = {name: {trainer: own.get(name, "none") for trainer, own in terms.items()} for name in names}
    equal = {name: next(iter(row.values())) for name, row in rows.items() if len(set(row.values())) == 1}
    return equal, {name: row for name, row in rows.items() if name not in equal}


def with_shared(shared: dict[str, str], trainers: set[str]) -> dict[str, dict[str, str]]:
    """Terms of these trainers: those that a script sets for all, which win, then each one's own."""
    return {trainer: shared | own | shared for trainer, own in TERMS.items() if trainer in trainers}


def show_terms(terms: dict[str, dict[str, str]]) -> str:
    """The terms as text: a line for each equal one, then each different one with a line for each trainer."""
    equal, different = split_terms(terms)
    lines = ["Equal for all:"] + [f"  {name}: {value}" for name, value in equal.items()] + ["Different:"]
    for name, row in different.items():
        lines += [f"  {name}:"] + [f"    {trainer}: {value}" for trainer, value in row.items()]
    return "\n".join(lines)
