"""What the express lane is told of requests with binary tensors: what their JSON says, and how they are answered. Pure.

From request to request only the bytes behind the JSON change. So the JSON is read the usual way once, and what it says
becomes a form, by which the compiled part reads the bytes and writes the answer.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from loopwright.core import Invalid
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.rest import v2, v2_binary_answers
from loopwright.serve.rest.v2_codec import ROWS_MARK, VALUES_MARK, codec_of

_KINDS = {
    "FP32": "f", "FP64": "d", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "UINT8": "B", "UINT16": "H",
    "UINT32": "I", "UINT64": "Q",
}  # fmt: skip


class Described(NamedTuple):
    """Requests with one tensor that holds all inputs in binary form.

    Attributes:
        kind: what its numbers are, in the letters of `struct`.
        pieces: the JSON of the answer, between which columns of values stand.
        columns: which outputs these are, or the ids, whose number is behind the outputs'.
        raws: the outputs that follow the JSON as bytes; none where all of the answer is JSON.
    """

    rows: int
    kind: str
    pieces: tuple[bytes, ...]
    columns: tuple[int, ...]
    raws: tuple[int, ...]


def form_of(request: Any, endpoint: LoadedEndpoint) -> Described | None:
    """What is so for all requests with this JSON, whose one live model has one number for each output; None where they
    may differ, or are too unusual.

    Args:
        request: one that the endpoint takes.
    """
    tensor = request.inputs[0]
    kind = _KINDS.get(tensor.datatype)
    is_binary = kind is not None and len(tensor.shape) == 2 and tensor.parameters.binary_data_size is not None
    if len(request.inputs) > 1 or not is_binary or request.id or sys.byteorder != "little":
        return None
    names = [item.name for item in request.outputs or ()]
    if len(set(names)) < len(names):
        return None
    try:
        return _described(request, tensor.shape[0], str(kind), endpoint)
    except Invalid:  # it asks for an output that there is not
        return None


def _described(request: Any, rows: int, kind: str, endpoint: LoadedEndpoint) -> Described:
    loaded = endpoint.live[0]
    known = loaded.predictor.signature.outputs
    places = {output.name: place for place, output in enumerate(known)}
    outputs = v2.requested(request.outputs, known) if request.outputs else known
    if v2_binary_answers.wants_binary(request):
        binary = v2_binary_answers.chosen(request, outputs)
        text = v2_binary_answers.template(loaded, rows, endpoint.spec.name, outputs, binary, b"[%b]" % VALUES_MARK)
    else:
        binary = dict.fromkeys(places, False)
        text = codec_of(endpoint).template(loaded, outputs).replace(ROWS_MARK.encode(), b"%d" % rows)
    columns = [places[output.name] for output in outputs if not binary[output.name]]
    raws = [places[output.name] for output in outputs if binary[output.name]]
    return Described(rows, kind, tuple(text.split(VALUES_MARK)), (*columns, len(known)), tuple(raws))
