"""Models whose truth is known: their documents, architecture, voice, and their training on the spot."""
