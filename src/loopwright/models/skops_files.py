"""skops files: which types one needs beyond those that skops itself trusts."""

from __future__ import annotations

from pathlib import Path

from loopwright.core import Invalid

_KNOWN = ("sklearn.", "lightgbm.", "xgboost.", "numpy.", "scipy.", "collections.")


def untrusted_types(path: Path) -> list[str]:
    """Types of known libraries that skops does not vouch for, because a forged file could crash them: to be made in a
    confined process only.

    Raises:
        Invalid: the file is damaged, or needs types of anybody else's.
    """
    import skops.io

    try:
        unknown = sorted(skops.io.get_untrusted_types(file=path))
    except Exception as error:  # a damaged archive raises whatever its reader raises
        raise Invalid(
            f"skops cannot read {path.name}: {type(error).__name__}: {error}",
            next_step="fetch it, or save the model by skops.io.dump, again",
        ) from error
    strange = [name for name in unknown if not name.startswith(_KNOWN)]
    if strange:
        raise Invalid(
            f"{path.name} needs types that skops does not trust: {', '.join(strange[:5])}",
            next_step="open it yourself with skops.io.load(trusted=[...]), and pass the model",
        )
    return [str(name) for name in unknown]
