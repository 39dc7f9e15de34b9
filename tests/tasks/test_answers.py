import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.tasks.answers import (
    LONGEST,
    is_number,
    last_line,
    last_number,
    last_value,
    marked_answer,
    same_answer,
    tagged_answer,
    without_text,
)


@given(st.text())
def test_no_text_is_too_odd(text):
    for find in (marked_answer, tagged_answer, last_number, last_value, last_line):
        assert find(text) is None or find(text) in text


@given(answer=st.text("abc 0,[]").filter(lambda a: a.strip() == a != ""), before=st.text("xyz\n #", max_size=20))
def test_a_marked_answer_is_found_whatever_stands_before_it(answer, before):
    assert marked_answer(f"{before}\n#### {answer}") == answer
    assert marked_answer(f"{before}\\boxed{{{answer}}}") == answer or "####" in before
    assert tagged_answer(f"{before}<answer>{answer}</answer>") == answer


def test_tags_hold_answers_of_several_lines_and_the_last_counts():
    assert tagged_answer("<answer>1</answer> no: <answer>\n1 2\n3 4\n</answer>") == "1 2\n3 4"
    assert tagged_answer("<answer>cut off") is None
    assert tagged_answer("cut off</answer>") is None
    assert tagged_answer("</answer><answer>1</answer>") == "1"
    assert tagged_answer("<answer>1</answer></answer>") == "1"
    assert tagged_answer("<answer>1</answer><answer>") == "1"


NESTED = st.recursive(
    st.text("ab 1,^", min_size=1, max_size=5),
    lambda inner: st.builds("{}{{{}}}{}".format, inner, inner, inner),
    max_leaves=8,
)


@given(
    inside=NESTED.filter(lambda text: text.strip() != ""),
    before=st.text("xyz\n {}", max_size=20),
    after=st.text("xyz\n }", max_size=20),
)
@pytest.mark.parametrize("command", [r"\boxed", r"\fbox", r"\boxed "])
def test_a_box_is_all_that_its_braces_hold(command, inside, before, after):
    assert marked_answer(f"{before}{command}{{{inside}}}{after}") == inside.strip()


@given(inside=NESTED.filter(lambda text: text.strip() != ""))
def test_a_box_that_is_not_closed_is_none(inside):
    assert marked_answer(rf"\boxed{{{inside}") is None
    assert marked_answer(rf"\boxed{{7}} \boxed{{{inside}") == "7"


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        (r"\boxed{1 \\ 2}", r"1 \\ 2"),
        (r"\boxed 5", "5"),
        (r"\boxed -5, or not", "-5"),
        (r"\boxed 1,234.", "1,234"),
        (r"\boxed\pi", r"\pi"),
        (r"\boxed\frac{1}{2} of it", r"\frac{1}{2}"),
        (r"\boxed x.", "x"),
        (r"\boxed it", None),
        (r"\boxedx", "x"),
        (r"\boxed{}", None),
        (r"\boxed{7} \boxed{ }", "7"),
        (r"\boxed{1} \boxed{2}", "2"),
        (r"\boxed{1 + \boxed{2}}", "2"),
        (r"\boxed{1} {\boxed{2}", "2"),
        (r"\unboxed{1}", None),
        ("boxed{1}", None),
    ],
)
def test_boxes(completion, answer):
    assert marked_answer(completion) == answer


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("#### 7\n#### 8", "8"),
        ("#### 7\n####", "7"),
        ("#### 7 ####  \n", "7"),
        ("####\n\n 7 \nmore", "7"),
        ("##### 7", None),
        ("### 7", None),
        ("#### Answer", None),
        ("#### **The final answer:**\n7", None),
        ("#### Answer the call", "Answer the call"),
        ("#### Final answer: 7", "Final answer: 7"),
        (r"\boxed{7} #### 8", "8"),
        (r"#### 8 \boxed{7}", "7"),
        ("a #### 8\n\\boxed{7}", "7"),
        ("\\boxed{7}\n#### 8", "7"),
        ("\\boxed{7}\n \t#### 8", "7"),
        ("\\boxed{7}\nso #### 8", "8"),
        ("\\boxed{7}\n.#### 8", "8"),
    ],
)
def test_hashes_and_boxes(completion, answer):
    assert marked_answer(completion) == answer


@pytest.mark.parametrize(
    "stated",
    [
        "8",
        "-8",
        "8.",
        ".5",
        "8.5",
        "1,234",
        "1/2",
        "$8",
        "-$8",
        r"\$8",
        "8%",
        r"8\%",
        "8$",
        "**8**",
        "8 apples",
        "8 big red apples.",
    ],
)
def test_a_number_after_hashes_precedes_a_box_where_that_is_the_format(stated):
    for completion in (f"#### {stated}\n\\boxed{{7}}", f"\\boxed{{7}}\n#### {stated}"):
        assert marked_answer(completion, hashes_first=True) == stated
        assert marked_answer(completion) == "7"


@pytest.mark.parametrize(
    "stated", ["Check: 6*7", "1. First step", "Final answer", "x", "8 of the ten big apples", "8: eight", "8" * 101]
)
def test_other_text_after_hashes_does_not(stated):
    for completion in (f"#### {stated}\n\\boxed{{7}}", f"\\boxed{{7}}\n#### {stated}"):
        assert marked_answer(completion, hashes_first=True) == "7"


@pytest.mark.parametrize(
    ("completion", "number", "value"),
    [
        ("12 and 30 make 42.", "42", "42"),
        ("it costs $1,234.50", "1,234.50", "1,234.50"),
        ("1,2", "2", "2"),
        ("-1,2", "2", "2"),
        ("1,234,56", "56", "56"),
        ("it is -1,234,567", "-1,234,567", "-1,234,567"),
        ("12,345", "12,345", "12,345"),
        ("1234,567", "567", "567"),
        ("3-5", "5", "5"),
        ("(3)-5", "5", "5"),
        ("3 -5", "-5", "-5"),
        ("x=-5", "-5", "-5"),
        (".5", ".5", ".5"),
        ("1e-5", "1e-5", "1e-5"),
        ("2E+3.", "2E+3", "2E+3"),
        ("3/4", "3/4", "3/4"),
        ("3 of 4", "4", "4"),
        ("$2\\sqrt{3}$", "3", r"2\sqrt{3}"),
        ("so $x$ is $2\\sqrt{3}$, hm", "3", r"2\sqrt{3}"),
        ("so $\\frac{1}{2}$, or 7", "7", "7"),
        ("7, or $\\frac{1}{x}$", "1", r"\frac{1}{x}"),
        (r"$\pi$7", "7", "7"),
        (r"7$\pi$", "7", "7"),
        (r"$7\pi$", "7", r"7\pi"),
        (r"\(2\sqrt{3}\)", "3", r"2\sqrt{3}"),
        (r"\[ 2\sqrt{3} \]", "3", r"2\sqrt{3}"),
        ("first\n$2\\sqrt{3}$\nlast", "3", r"2\sqrt{3}"),
        ("$5 or $10", "10", "10"),
        (r"\$5 \sqrt{7} \$", "7", "7"),
        ("$5$", "5", "5"),
        ("$2\\sqrt{3}$" + " " * LONGEST, "3", "3"),
        ("$2\\sqrt{3}$".ljust(LONGEST), "3", r"2\sqrt{3}"),
        ("$2\\sqrt{3}$".ljust(LONGEST + 1), "3", "3"),
        ("none", None, None),
    ],
)
def test_the_last_number_and_the_formula_that_it_stands_in(completion, number, value):
    assert last_number(completion) == number
    assert last_value(completion) == value


def test_long_answers_are_compared_as_texts():
    """Equal ones are right all the same, and an element more or less is not."""
    long = ", ".join(["red"] * LONGEST)
    assert same_answer(long, f" {long}\n") and same_answer(long, long)
    assert not same_answer(long, f"{long}, blue") and not same_answer(long, long.upper())
    longest = "a" * LONGEST
    assert same_answer(longest, longest.upper()) and not same_answer(longest + "a", longest.upper() + "A")


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("first this\nYes", "Yes"),
        ("Yes\n\n  ", "Yes"),
        ("So the answer is Yes.", "Yes"),
        ("Answer: yes, no", "yes, no"),
        ("The answer is: Yes", "Yes"),
        ("A sentence ends.", "A sentence ends."),
        ("Answer the call.", "Answer the call."),
        (" \n ", None),
        ("", None),
    ],
)
def test_the_last_line_without_its_preamble(completion, answer):
    assert last_line(completion) == answer


def test_text_within_mathematics():
    assert without_text(r"\text{Yes}") == "Yes"
    assert without_text(r"\frac{1}{2}") == r"\frac{1}{2}"


@pytest.mark.parametrize("text", ["7", "-7", "1,234.5", "3/4"])
def test_numbers(text):
    assert is_number(text) and last_number(f"it is {text}") == text


@pytest.mark.parametrize("text", ["", "4f", "0x1f", "1.0 + 2.0i", "7 days", "None", "1e-5"])
def test_texts(text):
    assert not is_number(text)
