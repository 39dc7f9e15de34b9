import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.tasks.answers import is_number, last_line, last_number, marked_answer, tagged_answer, without_text


@given(st.text())
def test_no_text_is_too_odd(text):
    for find in (marked_answer, tagged_answer, last_number, last_line):
        assert find(text) is None or find(text) in text


@given(answer=st.text("abc 0,[]").filter(lambda a: a.strip() == a != ""), before=st.text("xyz\n #", max_size=20))
def test_a_marked_answer_is_found_whatever_stands_before_it(answer, before):
    assert marked_answer(f"{before}\n#### {answer}") == answer
    assert marked_answer(f"{before}\\boxed{{{answer}}}") == answer or "####" in before
    assert tagged_answer(f"{before}<answer>{answer}</answer>") == answer


def test_tags_hold_answers_of_several_lines_and_the_last_counts():
    assert tagged_answer("<answer>1</answer> no: <answer>\n1 2\n3 4\n</answer>") == "1 2\n3 4"
    assert tagged_answer("<answer>cut off") is None


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
