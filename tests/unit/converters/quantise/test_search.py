"""The search for the fewest layers that need more bits."""

import pytest

from converters.quantise.search import drop_needless, find_fewest, rank


@pytest.mark.parametrize("count", [0, 1, 2, 7, 64])
def test_fewest_is_found_in_few_calls(count):
    for wanted in range(count + 1):
        calls = []

        def holds(number, wanted=wanted, calls=calls):
            calls.append(number)
            return number >= wanted

        assert find_fewest(count, holds) == wanted
        assert len(calls) == len(set(calls)) <= 2 + count.bit_length()


def test_nothing_holds():
    assert find_fewest(5, lambda number: False) is None


def test_needless_members_go_in_order_and_within_the_tries():
    tried = []

    def holds(kept):
        tried.append(list(kept))
        return "b" in kept

    assert drop_needless(["a", "b", "c"], holds, 2) == ["b", "c"]
    assert tried == [["b", "c"], ["c"]]
    assert drop_needless(["a", "b", "c"], holds, 9) == ["b"]


def test_most_harm_for_the_least_gain_comes_first():
    assert rank(["a", "b", "c"], {"a": 1.0, "b": 4.0, "c": 1.0}, {"a": 1.0, "b": 2.0, "c": 0.0}) == ["c", "b", "a"]
