import random

import numpy as np
import polars as pl
import pytest

from interp.statistics import Bootstrap
from interp.traces.density import by_class, changes, class_counts, densities
from interp.traces.lexicon import MATHEMATICAL, load_lexicon

LEXICON = load_lexicon("default")


def rollouts(**texts):
    rows = [
        {"problem": str(i), "model": model, "text": text, "n_tokens": len(text.split())}
        for model, written in texts.items()
        for i, text in enumerate(written)
    ]
    return pl.DataFrame(rows)


def strewn(word, rate, seed, n=400):
    rng = random.Random(seed)
    return [" ".join(word if rng.random() < rate else "7" for _ in range(rng.randrange(20, 60))) for _ in range(n)]


def row(rows, **wanted):
    (found,) = [r for r in rows if all(r[key] == value for key, value in wanted.items())]
    return found


def test_classes_are_counted_apart():
    counts = class_counts("Wait, let me check the sum: but the total is 7. Hmm", LEXICON)
    assert counts == {"realization": 2, "verification": 1, "connectors": 1, MATHEMATICAL: 2}


def test_densities_by_hand():
    table = rollouts(base=["wait 7 7 7", "7 7 7 7 7 7"], distilled=["wait wait 7 7", "hmm sum"])
    outcomes, bootstrap = by_class(table, LEXICON), Bootstrap(2, 200, 0)
    rows = densities(outcomes, bootstrap)
    assert len(rows) == 2 * len(LEXICON.classes)
    base, distilled = (row(rows, model=m, **{"class": "realization"}) for m in ("base", "distilled"))
    assert (base["count"], base["tokens"], base["estimate"]) == (1, 10, pytest.approx(10))
    assert (distilled["count"], distilled["tokens"], distilled["estimate"]) == (3, 6, pytest.approx(50))
    assert row(rows, model="distilled", **{"class": MATHEMATICAL})["estimate"] == pytest.approx(100 / 6)
    change = row(changes(outcomes, bootstrap), **{"class": "realization"})
    assert (change["model"], change["minus"], change["estimate"]) == ("distilled", "base", pytest.approx(40))


def test_a_planted_density_and_difference_are_found_and_nothing_else_is():
    table = rollouts(base=strewn("wait", 0.02, 0), distilled=strewn("wait", 0.06, 1), zero_rl=strewn("sum", 0.02, 2))
    outcomes, bootstrap = by_class(table, LEXICON), Bootstrap(400, 2000, 0)
    rows, moved = densities(outcomes, bootstrap), changes(outcomes, bootstrap)
    for model, label, truth in (
        ("base", "realization", 2),
        ("distilled", "realization", 6),
        ("zero_rl", MATHEMATICAL, 2),
    ):
        found = row(rows, model=model, **{"class": label})
        assert found["low"] < truth < found["high"]
        assert 0.2 < found["high"] - found["low"] < 1.2
    wait = row(moved, model="distilled", minus="base", **{"class": "realization"})
    assert 0 < wait["low"] < 4 < wait["high"]
    assert [r["class"] for r in moved if r["model"] == "distilled" and r["minus"] == "base" and r["low"] > 0] == [
        "realization"
    ]
    assert len(moved) == 3 * len(LEXICON.classes)


def test_differences_are_paired_by_problem():
    texts = strewn("wait", 0.3, 3)
    both = by_class(rollouts(base=texts, distilled=texts), LEXICON)
    same = row(changes(both, Bootstrap(400, 500, 0)), **{"class": "realization"})
    assert np.allclose([same["estimate"], same["low"], same["high"]], 0)


def test_a_model_that_writes_nothing_is_refused_not_divided_by():
    outcomes = by_class(rollouts(base=["wait", "7"], distilled=["", ""]), LEXICON)
    rows, moved = densities(outcomes, Bootstrap(2, 100, 0)), changes(outcomes, Bootstrap(2, 100, 0))
    assert all("refused" in r for r in rows if r["model"] == "distilled")
    assert all("refused" in r for r in moved)
