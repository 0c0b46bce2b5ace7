"""A `.nb` that ends after some of its ops."""

from __future__ import annotations

from converters.lite.nb.read import join_nb, list_records, open_program, parse_header
from converters.lite.nb.write import write_flat


def cut_nb(data: bytes, count: int) -> bytes:
    """Return the file without the ops after the first `count`; its output is that of the last op that is left.

    The first op must be feed and the last fetch; neither counts.
    """
    header, view = parse_header(data), memoryview(data)
    program = open_program(view, header, "whole.nb").read_stored()
    (block,) = program["blocks"]
    *kept, fetch = [*block["ops"][: count + 1], block["ops"][-1]]
    fetch["inputs"][0]["arguments"] = kept[-1]["outputs"][0]["arguments"][:1]
    block["ops"] = [*kept, fetch]
    records = [record.tobytes() for _, record in list_records(view, header)]
    return join_nb(data, write_flat("ProgramDesc", program), records, header.max_tensor_size_bytes)
