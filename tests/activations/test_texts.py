"""Which positions of the token stream are read: every prefix once, whoever wrote it."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.activations.texts import (
    Text,
    distinct,
    first_position,
    kept_positions,
    mixed,
    read_texts,
    write_texts,
)

NAMES = ("base", "distilled", "zero_rl")
PROMPTS = {"": (), "a": ((1,), (2, 3), (1,)), "b": ((1,), (2, 4), (1,))}
"""Prompts of the three models; the edited model's, number 1, is what `ids` begins with."""


def text(completion, model, asked=""):
    own = list(PROMPTS[asked][1]) if asked else []
    return Text([*own, *completion], model, "x", len(own), PROMPTS[asked])


texts = st.builds(
    text,
    st.lists(st.integers(0, 2), max_size=6),
    st.sampled_from([*NAMES, "given"]),
    st.sampled_from(list(PROMPTS)),
)


@given(some=st.lists(texts, max_size=12))
@settings(max_examples=200, deadline=None)
def test_every_prefix_is_read_once_and_knows_all_who_wrote_it(some):
    """Against a dictionary of all prefixes."""
    owner, writers = {}, defaultdict(int)
    for number, t in enumerate(some):
        bit = 1 << NAMES.index(t.model) if t.model in NAMES else 0
        for p in range(len(t.ids)):
            key = t.prompts, tuple(t.ids[: p + 1])
            owner.setdefault(key, (number, p))
            writers[key] |= bit
    found, written_by = distinct(some, NAMES)
    for number, (t, mask) in enumerate(zip(found, written_by, strict=True)):
        for p in range(len(t.ids)):
            key = t.prompts, tuple(t.ids[: p + 1])
            assert (p >= t.fresh) == (owner[key] == (number, p))
            assert mask[p] == (writers[key] if p >= t.fresh else 0)


@pytest.mark.parametrize(
    ("changes", "skip", "masked", "kept"),
    [
        ({}, 0, (), [0, 1, 2, 3, 4]),
        ({}, 2, (), [2, 3, 4]),
        ({}, 0, (7,), [0, 1, 3]),
        ({"fresh": 3}, 2, (), [3, 4]),
        ({"fresh": 5}, 2, (), []),
        ({"prompts": ((9,), (5, 6))}, 0, (), [2, 3, 4]),
        ({"prompts": ((9,), (5, 6)), "fresh": 1}, 0, (8,), [2, 4]),
        ({"prompts": ((9,), (5, 6)), "fresh": 3}, 4, (), [4]),
    ],
)
def test_positions_that_are_kept(changes, skip, masked, kept):
    """Two prompt tokens and three of the completion."""
    found = kept_positions(Text([5, 6, 7, 8, 7], "base", "x", 2, **changes), skip, masked)
    assert found.nonzero()[0].tolist() == kept


def test_what_masks_a_text_lies_behind_its_first_position():
    t = Text([5, 6, 7], "base", "x", 2, ((9,), (5, 6)), fresh=1)
    assert [first_position(t, skip) for skip in (0, 2, 3)] == [2, 2, 3]


def test_each_model_reads_the_completion_after_its_own_prompt():
    alike, apart = Text([5, 6, 7], "base", "x", 2), Text([5, 6, 7], "base", "x", 2, ((9,), (5, 6)))
    assert [alike.read_by(slot) for slot in range(2)] == [[5, 6, 7]] * 2
    assert [apart.read_by(slot) for slot in range(2)] == [[9, 7], [5, 6, 7]]


def test_texts_survive_their_file(tmp_path):
    some = [text([1, 2], "base"), text([1], "given", "a"), Text([], "zero_rl", "p/1", 0, fresh=3)]
    for chosen in (some, some[:1]):  # where no prompts differ the column holds empty lists alone
        write_texts(chosen, tmp_path / "texts[1].parquet")
        found = read_texts(tmp_path / "texts[1].parquet")
        assert [t.ids for t in found] == [t.ids for t in chosen]
        assert [[list(ids) for ids in t.prompts] for t in chosen] == [list(t.prompts) for t in found]
        assert [(t.model, t.problem, t.completion_start, t.fresh) for t in found] == [
            (t.model, t.problem, t.completion_start, t.fresh) for t in chosen
        ]


def test_the_order_is_a_permutation_of_its_seed():
    assert sorted(mixed(500, 0)) == list(range(500))
    assert mixed(500, 0) == mixed(500, 0) != mixed(500, 1)
    displaced = np.abs(np.array(mixed(3000, 2)) - np.arange(3000)).mean()
    assert displaced == pytest.approx(1000, rel=0.05)  # n/3, as of a random permutation
