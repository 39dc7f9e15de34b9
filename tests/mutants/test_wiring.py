"""The wiring faults and the equivalent mutants, listed by hand, still fit the source."""

import ast
from pathlib import Path

import pytest

from mutants.choose import mutants
from mutants.faults import equivalents, faults

ROOT = Path(__file__).parents[2]
FAULTS = faults()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_wiring_fault_fits_the_source(fault):
    text = (ROOT / fault.file).read_text()
    assert text.count(fault.find) == 1
    if fault.file.endswith(".py"):
        assert ast.dump(ast.parse(fault.mutant(ROOT).text)) != ast.dump(ast.parse(text))
    assert fault.tests and fault.what
    for test in fault.tests:
        assert (ROOT / test.split()[0]).is_file()


def test_wiring_faults_have_names_of_their_own():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_every_equivalent_is_still_a_mutant_of_the_source():
    known = equivalents()
    files = {file for file, *_ in known}
    there = {(m.file, m.function, m.before, m.after) for f in files for m in mutants(f, (ROOT / f).read_text())}
    assert set(known) <= there
