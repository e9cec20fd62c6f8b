"""Where a response states its answer."""

from __future__ import annotations

import pytest

from kdlight.data.traces.verification.answers import (
    boxed_answer,
    find_answer,
    find_number,
    stated_lines,
    tagged_answer,
    without_reasoning,
)


@pytest.mark.parametrize(
    ("response", "text", "place"),
    [
        (r"<answer>1</answer> \boxed{2} The answer is 3.", "2", "box"),
        ("The answer is 3. <answer>1</answer>\n4", "1", "tag"),
        ("The answer is 3.\n4", "3.", "mark"),
        ("The answer is 3.\nNo. The answer is 4.\n5", "4.", "mark"),
        ("**Answer:** 3", "3", "mark"),
        ("Answer:\n3\n4", "3", "mark"),
        ("48 + 24 = 72\n#### 72", "72", "mark"),
        ("答案是7", "7", "mark"),
        ("The answer is", "", "mark"),
        ("3\n4\n\n", "4", "line"),
        # behind a mark, the next line that states something
        ("The answer is:\n7", "7", "mark"),
        ("**The answer is:**\n7", "7", "mark"),
        ("**Answer:**\n\n**7**", "7", "mark"),
        ("The final answer is:\n\n$$\n7\n$$", "7", "mark"),
        ("Answer:\n\\[\n7\n\\]", "7", "mark"),
        ("Answer:\r\n```python\r\n7\r\n```", "7", "mark"),
        ("Answer:\n---\n7", "7", "mark"),
        ("Answer:\n\\begin{align*}\n7\n\\end{align*}", "7", "mark"),
        ("答案是：\n7", "7", "mark"),
        ("The answer is as follows:\n7", "7", "mark"),
        ("The answer is therefore:\n7", "7", "mark"),
        ("The answer is ∞.\nThank you", "∞.", "mark"),
        ("The answer is <\n3", "<", "mark"),
        ("The answer is:\n$$", "", "mark"),
        # the last line that states something
        ("so\n\\[\n7\n\\]", "7", "line"),
        ("so\n$$\n7\n$$\n", "7", "line"),
        ("```\n7\n```", "7", "line"),
        ("7\n---", "7", "line"),
        ("so\n*", "*", "line"),
        ("$$", "$$", "line"),
        # a heading of Markdown is no mark
        ("#### Step 1\n3+4\n#### Step 2: Add\n\nIt is 7", "It is 7", "line"),
        ("#### Step 2\n7\n#### 8", "8", "mark"),
        ("##### 2. Result\n7", "7", "line"),
        ("##### 7", "##### 7", "line"),
        ("#### Final Answer\n\n7", "7", "line"),
        ("#### 1.\n7", "7", "line"),
        ("#### 1\n3+4\n#### 2\n7", "7", "line"),
        ("3\n#### 7 apples\n", "7 apples", "mark"),
        ("3 #### 7\nI looked at page 3.", "7", "mark"),
        ("#### -1,234.5\nThank you", "-1,234.5", "mark"),
        ("#### Answer: 7", "7", "mark"),
        ("The answer is 7.\n#### 8", "8", "mark"),
        ("#### 8\nThe answer is 7.", "7.", "mark"),
        ("7\n####", "####", "line"),
        (r"\boxed{} 4", r"\boxed{} 4", "line"),
        ("<answer></answer>", "<answer></answer>", "line"),
        (r"\boxed{1}<think>\boxed{2}</think>3", "3", "line"),
        ("", "", "line"),
    ],
)
def test_the_order_of_the_places(response: str, text: str, place: str) -> None:
    assert find_answer(response) == (text, place)


@pytest.mark.parametrize(
    ("response", "number"),
    [
        (r"\boxed{42}. Check step 3", 42),
        (r"\boxed{x = 42}", 42),
        (r"\boxed{41} or 42", 41),
        (r"\boxed{41 or 42}", None),
        ("<answer>42 apples</answer>", 42),
        ("<answer>It is 42.</answer>", 42),
        ("<answer>3 + 39 = 42</answer>", 42),
        ("<answer>41 or 3 and 42</answer>", None),
        ("The answer is 40 + 2 = 42.\nCheck step 3.", 42),
        ("The answer is unknown.\n42", None),
        ("It is 42.\nThank you!", 42),
        ("The final answer is:\n\n$$\n42\n$$", 42),
        ("#### Step 1: read\n40+2\n#### Step 2: Add\n\nThe total is 42", 42),
        ("##### 2. Result\n42", 42),
        ("#### 42\nSee page 3.", 42),
        ("The answer is x = 41, y = 42.", None),
        ("<think>41</think>It is 42.", 42),
        ("<think>41</think>It is unknown.", None),
        ("<think>42</think>", 42),
        ("<think>42", None),
    ],
)
def test_the_number_of_a_response(response: str, number: int | None) -> None:
    found = find_number(response)
    assert (None if found is None else found.top) == number


@pytest.mark.parametrize(
    ("response", "boxed"),
    [
        (r"\boxed{1}\boxed{2}", "2"),
        (r"\boxed{1}\boxed{2", "1"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1\}}", r"\{1\}"),
        (r"\boxed{1\}", None),
        (r"\boxed {1}", "1"),
        (r"\fbox{1}", "1"),
        (r"\boxed{1}\boxed{ }", "1"),
        (r"\boxed{\boxed{1}}", r"\boxed{1}"),
        (r"{\boxed{1}", "1"),
        (r"}\boxed{1}", "1"),
        ("boxed{1}", None),
        ("", None),
    ],
)
def test_the_last_box_that_is_closed_counts(response: str, boxed: str | None) -> None:
    assert boxed_answer(response) == boxed


@pytest.mark.parametrize(
    ("response", "tagged"),
    [
        ("<answer>1</answer> or <answer> 2\n</answer>.", "2"),
        ("<answer>1</answer> or <answer>2", "1"),
        ("<answer>1</answer> or 2</answer>", "1"),
        ("<answer>", None),
        ("</answer>1<answer>", None),
        ("1", None),
    ],
)
def test_the_last_answer_that_is_closed_counts(response: str, tagged: str | None) -> None:
    assert tagged_answer(response) == tagged


@pytest.mark.parametrize(
    ("response", "rest"),
    [
        ("<think>a</think>b", "b"),
        ("a</think>b", "b"),
        ("[THINK]a[/THINK]b", "b"),
        ("<thinking>a</thinking>b", "b"),
        ("<think>a</think>b<think>c</think>d", "d"),
        ("<think>a</think>b<think>c", "b"),
        ("<think>a</think>\n", "<think>a"),
        ("b<think>a", "b"),
        ("b", "b"),
        ("", ""),
    ],
)
def test_reasoning_is_left_out(response: str, rest: str) -> None:
    assert without_reasoning(response) == rest


def test_fences_at_the_end_state_nothing() -> None:
    assert stated_lines("a\n\nb\n\\]\n$$\n```\n") == ["a", "", "b"]
    assert stated_lines("$$\n---") == ["$$", "---"]
    assert stated_lines(" \n") == []
