"""The recogniser's classes and their characters; CTC decoding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLANK_INDEX = 0


@dataclass(frozen=True)
class DecodedText:
    """A line's text, and where its characters are among the T time steps."""

    text: str
    score: float
    """Mean probability of the characters, in [0, 1]; 0.0 if there are none."""
    pieces: list[str]
    """Text of each of the N characters, in the order of the steps; followed by a space if one was added."""
    scores: NDArray[np.float32]
    """N, in [0, 1]."""
    starts: NDArray[np.int64]
    """N, first step of each character."""
    ends: NDArray[np.int64]
    """N, the step after the last one of each character."""
    steps: int
    """T."""


@dataclass(frozen=True)
class Charset:
    """The text of each class; class 0 is the CTC blank."""

    classes: tuple[str, ...]

    @cached_property
    def _space(self) -> int | None:
        return self.classes.index(" ") if " " in self.classes else None

    @classmethod
    def fit(cls, dictionary: Iterable[str], class_count: int, model: str) -> Charset:
        """Match a dictionary to a model: blank + dictionary, plus a space if the model has one more class.

        An empty entry is a class that reads as "". Empty entries at the end are dropped if only then the number of
        classes fits. Several classes may have the same character.

        Raises ModelError, naming `model`, if the numbers do not match.
        """
        characters = tuple(dictionary)
        total = count = len(characters)
        while count and not characters[count - 1]:
            count -= 1
        # The space first: with one empty entry at the end, the extra class could be either. Networks never predict the
        # empty entry, but reading a space as "" would lose it.
        for kept, spaces in ((total, 1), (count, 1), (total, 0), (count, 0)):
            if 1 + kept + spaces == class_count:
                return cls(("", *characters[:kept], *(" " * spaces)))
        empty = total - count
        without = f"; {count + 1} (with a space {count + 2}) without the {empty} empty at its end" if empty else ""
        raise ModelError(
            f"the dictionary does not match {model}: {total} characters make {total + 1} classes "
            f"(with a space {total + 2}){without}, the model has {class_count}",
            "set Recognition.character_dict_path to the dictionary that the model was trained with",
        )

    def decode(self, probs: NDArray[np.float32], space_weight: float = 1) -> DecodedText:
        """Decode one line's probs (T × classes): drop repeats, then blanks.

        A step at which the blank is best is a space if `space_weight` times the probability of a space is higher, and
        it is between two characters other than spaces. Such a space does not count in the score.
        """
        best = probs.argmax(axis=1)
        changes = np.ones(len(best), dtype=bool)
        changes[1:] = best[1:] != best[:-1]
        runs = np.flatnonzero(changes)
        kept = best[runs] != BLANK_INDEX
        starts, ends = runs[kept], np.append(runs[1:], len(best))[kept]
        # A softmax of float32 values may exceed 1 by a rounding error.
        scores = np.minimum(probs[starts, best[starts]], np.float32(1))
        pieces = [self.classes[i] for i in best[starts]]
        if space_weight != 1 and self._space is not None:
            spaced = (best == BLANK_INDEX) & (space_weight * probs[:, self._space] > probs[:, BLANK_INDEX])
            # How many characters come before each of these spaces; several spaces at the same place are one.
            for place in np.unique(np.searchsorted(starts, np.flatnonzero(spaced))):
                if 0 < place < len(pieces) and pieces[place - 1].strip() and pieces[place].strip():
                    pieces[place - 1] += " "
        score = float(scores.mean()) if pieces else 0.0
        return DecodedText("".join(pieces), score, pieces, scores, starts, ends, len(best))
