"""Classes of the recogniser and what they stand for; CTC decoding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import ModelError

if TYPE_CHECKING:
    # NumPy before 1.21, which Debian 11 has, knows no NDArray.
    from numpy.typing import NDArray

BLANK_INDEX = 0


@dataclass(frozen=True)
class Charset:
    """The text of each class; class 0 is the CTC blank."""

    classes: tuple[str, ...]

    @classmethod
    def fit(cls, dictionary: Iterable[str], class_count: int, model: str) -> Charset:
        """Match a dictionary to a model: blank + dictionary, with a space behind where the model has one more class.

        Raises ModelError where neither count fits; `model` names the model in it.
        """
        characters = tuple(dictionary)
        if len(characters) + 2 == class_count:
            characters = (*characters, " ")
        if len(characters) + 1 != class_count:
            raise ModelError(
                f"the dictionary does not fit {model}: {len(characters)} characters make {len(characters) + 1} classes "
                f"(with a space {len(characters) + 2}), the model has {class_count}",
                "give the dictionary that the model was trained with (Recognition.character_dict_path)",
            )
        return cls(("", *characters))

    def decode(self, probs: NDArray[np.float32]) -> tuple[str, float]:
        """Decode one line's probs (T × classes): drop repeats, then blanks.

        Returns the text and the mean probability of its characters; ("", 0.0) where nothing but blank was seen.
        """
        best = probs.argmax(axis=1)
        kept = best != BLANK_INDEX
        kept[1:] &= best[1:] != best[:-1]
        if not kept.any():
            return "", 0.0
        text = "".join(self.classes[i] for i in best[kept])
        return text, float(probs[np.flatnonzero(kept), best[kept]].mean())
