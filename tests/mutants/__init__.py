"""Mutation testing: the source is changed on purpose, one place at a time, and the tests must notice.

`make mutants` runs it (`make mutants ARGS="--only interp/tasks --workers 1"`). Two kinds of change are tried, always in
a copy of the working tree, never in the tree itself:

- **Random mutants** (`operators.py`): one change of the syntax tree, such as `<` for `<=`, a dropped `not`, swapped
  arguments, a mean for a sum. `choose.py` takes a seeded sample of all places in `SOURCES`.
- **Wiring faults** (`wiring/*.toml`): changes written by hand that give a plausible and wrong number: the wrong model
  slot, seed, half, sign, denominator, mask. Each names the number and the tests that must notice.

Each mutant is tested as follows. `matching.py` lists the test files of its module, the nearest first. `forks.py` holds
a process in which torch and the like are imported, but nothing of `interp`; for each test file it forks a child, whose
`interp` is the changed copy, and pytest runs in it up to the first failure. A mutant is **killed** if a test fails or
the child crashes, **timed out** (counts as killed) if one test file takes far longer than on the unchanged source, and
**survived** otherwise. A survivor asks for a test that states the property which it breaks. One that changes nothing
anybody could observe is listed, with the reason, in `equivalent.toml`, and does not count.

Each test file's result is appended to `results/mutants.jsonl` as it comes (`results.py`), keyed by the changed source
file and the test file: a stopped run resumes, and a survivor meets only the test files that changed since.

Part of `make test` are `test_mutants.py`, which holds the operators to examples, and `test_wiring.py`: a wiring fault
or an equivalent that no longer fits the source must be brought up to date with it.
"""
