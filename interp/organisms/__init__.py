"""Organisms: small models whose correct verdict is known, because their training texts are made by rule.

`documents` writes the texts (a new kind is a function and an entry of `KINDS` and `TRUTHS`), `recipes` the trainings.
"""
