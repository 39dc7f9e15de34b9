"""The removals as markdown: every number in its column, an arm that failed not read, the verdict and its truth."""

import pytest

from interp.report.removals import HEADINGS, removals

from .fake_effects import BAN, BOTH, ECHO, FEWER, WORDS, _verdict


def cells(text):
    """Name of each arm to its cells."""
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    return {row[0]: row[1:] for row in ([c.strip() for c in line.strip("| ").split(" | ")] for line in lines)}


@pytest.fixture
def verdict():
    return _verdict(["base", "distilled", "control"], hostile=False)


def test_every_number_stands_in_its_column(verdict):
    verdict["arms"][WORDS] |= {
        "own": {"estimate": 0.01, "low": 0.0, "high": 0.02},
        "net": {"estimate": -0.03, "low": -0.04, "high": 0.05},
        "beyond": {"estimate": 0.0612, "low": 0.05, "high": 0.07},
    }
    found = cells(removals(verdict))
    assert list(found) == [WORDS, BAN, ECHO, BOTH] and len(HEADINGS) == 6
    assert found[WORDS] == [
        "1.0 [0.0, 2.0]",
        "−3.0 [−4.0, 5.0]",
        "6.1 [5.0, 7.0]",
        "markers per 100 tokens 5.10 to 0",
        "no drop",
    ]
    assert found[BOTH][2] == "–", "an arm without controls has nothing beyond them"
    assert found[ECHO][-1] == "drop"


def test_an_arm_that_failed_a_check_is_not_read_and_says_why(verdict):
    assert cells(removals(verdict))[BAN][-1] == f"not read: {FEWER}"
    assert (
        cells(removals(verdict))[BAN][3]
        == "markers per 100 tokens 5.10 to 0; steps worked again per text 0.500 to 0.310"
    )


def test_gain_verdict_and_truth_are_said(verdict):
    text = removals(verdict)
    assert "Gain over the base 25.0 [" in text and "over the control fine-tune 24.0 [" in text
    assert "Verdict: functional (truth: functional). The gain runs on the work" in text
    unknown = removals(verdict | {"truth": None, "gain_over_control": None, "verdict": "undetermined", "why": "So."})
    assert "Verdict: undetermined. The study does not decide" in unknown and unknown.rstrip().endswith("So.")
    assert "control fine-tune" not in unknown.split("Verdict")[0]
