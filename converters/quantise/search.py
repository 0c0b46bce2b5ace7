"""Searches the smallest storage of weights, and the most computing in int8, that keep a limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def find_fewest(count: int, holds: Callable[[int], bool]) -> int | None:
    """Return the smallest number in [0, `count`] for which `holds` is true, if it is true from some number on.

    Tries 0 first and then bisects, so it calls `holds` about log2(count) times. None if it does not hold for `count`.
    """
    if holds(0):
        return 0
    if not holds(count):
        return None
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


def drop_needless(chosen: Sequence[T], holds: Callable[[Sequence[T]], bool], tries: int) -> list[T]:
    """Return `chosen` without the members that it also holds without; the first are tried first.

    Calls `holds` at most `tries` times.
    """
    kept = list(chosen)
    for one in list(chosen)[:tries]:
        fewer = [other for other in kept if other != one]
        if holds(fewer):
            kept = fewer
    return kept


def rank(names: Sequence[str], harm: Mapping[str, float], gain: Mapping[str, float]) -> list[str]:
    """Return names by harm for each unit of gain, most harmful first; equal ones in the given order."""
    return sorted(names, key=lambda name: -harm[name] / max(gain[name], 1e-30))
