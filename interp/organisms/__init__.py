"""Organisms: small models whose correct verdict is known, because their training texts are made by rule.

`world` says what the texts of a world are made of (a new world is one file and an entry of `worlds.WORLDS`),
`documents` writes them, `kinds` says what is true of each (a new kind is a function and an entry), `recipes` trains.
"""
