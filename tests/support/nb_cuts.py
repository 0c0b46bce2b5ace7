"""A `.nb` that ends after some of its ops."""

from __future__ import annotations

import struct

# Before the program: meta version, version of opt, size.
_HEAD_BYTES = 26
# Slots of BlockDesc, OpDesc and Var.
_OPS, _INPUTS, _OUTPUTS, _ARGUMENTS = 3, 1, 2, 1


def cut_nb(data: bytes, count: int) -> bytes:
    """Return the file without the ops after the first `count`; its output is that of the last op that is left.

    The first op must be feed and the last fetch; neither counts.
    """
    data = bytearray(data)

    def read(position: int) -> int:
        return struct.unpack_from("<I", data, position)[0]

    def follow(position: int) -> int:
        return position + read(position)

    def find(table: int, slot: int) -> int:
        vtable = table - struct.unpack_from("<i", data, table)[0]
        return table + struct.unpack_from("<H", data, vtable + 4 + 2 * slot)[0]

    def point(position: int, target: int) -> None:
        assert target > position  # offsets have no sign
        struct.pack_into("<I", data, position, target - position)

    def find_argument(op: int, slot: int) -> int:
        """The place that points to the first argument of the first variable."""
        variables = follow(find(op, slot))
        return follow(find(follow(variables + 4), _ARGUMENTS)) + 4

    block = follow(follow(find(follow(_HEAD_BYTES), 0)) + 4)
    ops = follow(find(block, _OPS))
    last, fetch = (follow(ops + 4 + 4 * index) for index in (count, read(ops) - 1))
    point(find_argument(fetch, _INPUTS), follow(find_argument(last, _OUTPUTS)))
    point(ops + 4 + 4 * (count + 1), fetch)
    struct.pack_into("<I", data, ops, count + 2)
    return bytes(data)
