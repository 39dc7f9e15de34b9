"""English words that say nothing of a step themselves: they lead to it, or announce that it comes."""

from interp.traces.phrases import words

LEADING = frozenset(words("and or well ok okay yes yeah no oh ah right sure thus therefore hence sorry"))
"""Words that say nothing where they begin a step."""
ANYWHERE = frozenset(words("so again indeed"))
"""Words that say nothing anywhere in a step."""
_OPENING = """
a about all am answer back be bit by calculation can carefully check compute confirm correct could did do does doing
done double doubt down error fine go going good had have here hold how i i'll i'm i've if in is isn't it it's its last
let let's line look looks make makes may me minute mistake moment more must my myself need not odd of off on once one
over part please possible previous question quick quickly re recalculate recheck reconsider redo result rethink retry
review same second see seems sense should sound sounds step strange sum that that's the think this to true try verify
was wasn't way we we'll weird what which why will with work wrong
"""
OPENING = LEADING | frozenset(words(_OPENING))
"""Words of which a sentence that only opens a step consists: "Is that right?", "Let me go over that once more."."""
