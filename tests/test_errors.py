"""What messages are made of."""

from interp.errors import first_difference, one_line


def test_an_error_is_one_line():
    assert one_line(ValueError("two\n  lines,\tand a tab")) == "two lines, and a tab"
    assert one_line(ValueError("x" * 500), 10) == "x" * 10
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_the_first_difference_is_named_by_its_key():
    old = {"b": {"k": 12, "lists": [1, 2]}, "a": 1}
    assert first_difference(old, {"a": 1, "b": {"lists": [1, 2], "k": 12}}) is None
    assert first_difference(old, {"a": 1, "b": {"k": 13, "lists": [1, 2]}}) == ("b.k", 12, 13)
    assert first_difference(old, {"a": 1, "b": {"k": 12, "lists": [1, 3]}}) == ("b.lists.1", 2, 3)
    assert first_difference(old, {"a": 2, "b": {"k": 13, "lists": []}}) == ("a", 1, 2)
    assert first_difference({"a": 1}, {}) == ("a", 1, None)
