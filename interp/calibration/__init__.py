"""How often the instrument is right: many organisms whose truth is known, each read by a whole study."""
