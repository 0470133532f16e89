"""What is left of long sources, token by token, and what is said of it."""

import pytest

from seq2seq.text.ids import END_ID
from seq2seq.text.tokenizer import Truncation


@pytest.mark.parametrize("policy", ["none", "head", "head_tail"])
@pytest.mark.parametrize("limit", [3, 4, 9])
def test_what_is_left(policy, limit):
    for length in range(1, 14):
        tokens = [*range(100, 100 + length - 1), END_ID]
        left = Truncation(policy, limit).cut(tokens)
        if policy == "none" or length <= limit:
            assert left == tokens
            continue
        assert len(left) == limit
        assert left[-1] == END_ID
        places = [token - 100 for token in left[:-1]]
        # Half of what is left, or all of it, from the beginning; the rest from the end.
        from_the_beginning = limit - 1 if policy == "head" else -(-(limit - 1) // 2)
        from_the_end = range(length - 1 - (limit - 1 - from_the_beginning), length - 1)
        assert places == [*range(from_the_beginning), *from_the_end]


def test_the_note_counts_sources_and_tokens(toy_tokenizer):
    sources = ["the cat", "the big cat sees the dog", "the old king hears the girl today"]
    assert Truncation("head", 5).note(toy_tokenizer, sources) == (
        "2 of 3 sources cut to 5 tokens (head), 5 tokens (27.8 %) left out"
    )
    assert Truncation("head_tail", 8).note(toy_tokenizer, sources) == ""
    assert Truncation("none", 5).note(toy_tokenizer, sources) == ""
