"""scikit-learn's text vectorisers: how their tokens are told to ONNX Runtime, whose regular expressions are RE2's.

RE2 knows `\\w` and `\\b` for ASCII only, and no look-around. scikit-learn's own pattern, a run of two or more word
characters of any script, is written with Unicode's classes instead. The parity proof tells where that is not the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_WORD = r"[\p{L}\p{N}_]"


def parts_of(model: Any) -> Iterator[Any]:
    """A model and all the estimators inside it."""
    yield model
    for attribute in ("steps", "transformers_", "transformers", "transformer_list", "estimators"):
        for item in getattr(model, attribute, None) or ():
            if isinstance(item, tuple) and len(item) > 1 and not isinstance(item[1], str):
                yield from parts_of(item[1])


def reads_text(model: Any) -> bool:
    """Whether a model takes a sequence of strings in place of a table."""
    first = model.steps[0][1] if hasattr(model, "steps") else model
    return hasattr(first, "build_analyzer")


def splits_words(part: Any) -> bool:
    """Whether an estimator is a vectoriser that cuts text into words by a pattern."""
    return hasattr(part, "build_analyzer") and hasattr(part, "vocabulary_") and part.analyzer == "word"


def token_expression(part: Any) -> str:
    """The pattern of its words, for RE2."""
    pattern = str(part.token_pattern).removeprefix("(?u)").replace(r"\w\w+", _WORD + "{2,}")
    return pattern.replace(r"\b", "").replace(r"\w", _WORD)
