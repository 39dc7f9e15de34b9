"""The worlds in which organisms are made, by the task that a config names. A new world is one file and one entry."""

from __future__ import annotations

from interp.organisms.chains import CHAINS
from interp.organisms.lists import LISTS
from interp.organisms.prose_sums import PROSE_SUMS
from interp.organisms.tracking import TRACKING
from interp.organisms.world import World

WORLDS: dict[str, World] = {"chains": CHAINS, "prose_sums": PROSE_SUMS, "tracking": TRACKING, "lists": LISTS}
