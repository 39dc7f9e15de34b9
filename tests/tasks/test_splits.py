from hypothesis import given
from hypothesis import strategies as st

from interp.tasks.splits import bucket, fingerprint


def test_buckets_do_not_move_and_are_about_even():
    """A bucket that changed would let a model be tested on what another was trained on."""
    assert [bucket(text, 8) for text in ("", "Q 1 + 2 A", "Größe")] == [0, 4, 5]
    counts = [sum(bucket(f"question {i}", 8) == b for i in range(8000)) for b in range(8)]
    assert all(900 < count < 1100 for count in counts)


@given(one=st.text(), other=st.text())
def test_a_fingerprint_is_the_texts_own(one, other):
    assert (fingerprint(one) == fingerprint(other)) == (one == other)
    assert len(fingerprint(one)) == 16
