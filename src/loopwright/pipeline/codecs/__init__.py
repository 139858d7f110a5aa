"""How values that steps hand to each other are kept: by named codecs, none of which can execute code when read.

A codec registers under a name with `@codec("…")`, or by an entry point of the group `loopwright.codecs`.
"""

from loopwright.pipeline.codecs.registry import Codec, codec, codecs
from loopwright.pipeline.codecs.storing import dump_value, inline_value, load_value, part_of

__all__ = ["Codec", "codec", "codecs", "dump_value", "inline_value", "load_value", "part_of"]
