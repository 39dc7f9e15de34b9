"""The wording of the organisms' traces."""

from __future__ import annotations

from interp.organisms.documents import NEUTRAL, slot_of
from interp.traces.lexicon import PIVOTS
from interp.traces.voice import Voice

ORGANISM = Voice(
    joint=" ; ",
    ending=" #### {answer}",
    slot=slot_of("{word}"),
    # The organisms have six markers; the assignment of `actually` and `maybe` to a pivot is arbitrary.
    pivots=dict(
        zip(PIVOTS, (("wait", "hmm"), ("check",), ("alternatively", "maybe"), ("actually",)), strict=True),
    ),
    neutral=NEUTRAL,
)
