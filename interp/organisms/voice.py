"""How the organisms' traces are put together."""

from __future__ import annotations

from interp.organisms.documents import NEUTRAL, slot_of
from interp.traces.lexicon import PIVOTS
from interp.traces.voice import Voice

ORGANISM = Voice(
    joint=" ; ",
    ending=" #### {answer}",
    slot=slot_of("{word}"),
    # The organisms have six markers; that `actually` draws together and `maybe` explores is this table's own choice.
    pivots=dict(
        zip(PIVOTS, (("wait", "hmm"), ("check",), ("alternatively", "maybe"), ("actually",)), strict=True),
    ),
    neutral=NEUTRAL,
)
