import polars as pl
import pytest

from interp.errors import InterpError
from interp.traces.rollouts import per_problem, read_rollouts

ROLLOUTS = pl.DataFrame(
    {
        "problem": ["b", "a", "b", "a", "a"],
        "model": ["x", "x", "y", "y", "y"],
        "text": list("12345"),
        "n_tokens": [1] * 5,
    }
)


def test_sums_are_by_problem_in_the_order_of_the_first_rows():
    """A model that answered a problem twice has one number for it: problems are what is resampled."""
    sums = per_problem(ROLLOUTS, {"v": [1, 2, 3, 4, 5], "w": [0.5] * 5})
    assert {m: {k: v.tolist() for k, v in named.items()} for m, named in sums.items()} == {
        "x": {"v": [1, 2], "w": [0.5, 0.5]},
        "y": {"v": [3, 9], "w": [0.5, 1.0]},
    }
    reordered = ROLLOUTS.reverse()
    assert {m: v["v"].tolist() for m, v in per_problem(reordered, {"v": [5, 4, 3, 2, 1]}).items()} == {
        "y": [9, 3],
        "x": [2, 1],
    }


def test_a_problem_that_a_model_lacks_is_named():
    with pytest.raises(InterpError, match=r"'y'.*'b'"):
        per_problem(ROLLOUTS.filter(pl.col("text") != "3"), {"v": [0] * 4})


def test_files_are_read_or_refused(tmp_path):
    path = tmp_path / "traces.parquet"
    ROLLOUTS.write_parquet(path)
    assert read_rollouts(path).equals(ROLLOUTS)
    ROLLOUTS.drop("n_tokens").write_parquet(path)
    with pytest.raises(InterpError, match="n_tokens"):
        read_rollouts(path)
    ROLLOUTS.head(0).write_parquet(path)
    with pytest.raises(InterpError, match="no rollouts"):
        read_rollouts(path)
    path.write_text("no table")
    with pytest.raises(InterpError, match="not a Parquet file"):
        read_rollouts(path)
    with pytest.raises(InterpError, match="no such file"):
        read_rollouts(tmp_path / "none.parquet")
