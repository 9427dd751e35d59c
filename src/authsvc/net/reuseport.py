"""Which of the sockets that share a port (SO_REUSEPORT) gets a new connection, decided by us.

By itself the kernel picks one by a hash, which is as uneven as dice. A program of the classic BPF can replace
that choice; attaching one needs no privilege. The kernel numbers the sockets of a port in the order in which
they began to listen. When one of them closes, the last one takes its number.

Mechanism: the program computes a number from the port of the client, its `natural` socket. If that one is
excluded, another number of the same computation picks among the others.

Failure: OSError where the kernel has no such programs. When a number is that of no socket, the kernel uses
its hash.
"""

import ctypes
import socket
import struct
import sys
from collections.abc import Collection

# From asm-generic/socket.h, linux/bpf_common.h and linux/filter.h. Python has no names for them.
_SO_ATTACH_REUSEPORT_CBPF = 51
_NETWORK_HEADER = 2**32 - 0x100000
_LOAD_BYTE, _LOAD_HALF, _LOAD_HALF_INDEXED, _LOAD_MEMORY, _STORE = 0x30, 0x28, 0x48, 0x60, 0x02
_HEADER_LENGTH = 0xB1
_MULTIPLY, _AND, _EXCLUSIVE_OR, _SHIFT_RIGHT = 0x24, 0x54, 0xA4, 0x74
_JUMP, _JUMP_IF_EQUAL, _RETURN, _RETURN_COMPUTED = 0x05, 0x15, 0x06, 0x16
_IPV6, _IPV6_HEADER_BYTES = 6, 40
_NO_SOCKET = 2**32 - 1

# 2^32 divided by the golden ratio: ports that follow each other lead to different sockets.
_SPREAD = 0x9E3779B1
# Secrets are smaller than this, and so are ports.
MAX_SECRET = 2**16

_Instruction = tuple[int, int, int, int]

SUPPORTED = sys.platform == "linux"


def natural(client_port: int, size: int, secret: int) -> int:
    """Return the number, of `size` sockets, to which a client's port leads if none is excluded.

    `secret` is a random number, so that clients do not know where a port leads.
    """
    return ((client_port ^ secret) * _SPREAD % 2**32 >> 16) * size >> 16


def steer(listener: socket.socket, size: int, secret: int, excluded: Collection[int] = ()) -> None:
    """Lead new connections to the port of this listener, which `size` sockets share, past the excluded ones.

    Raises OSError.
    """
    others = [number for number in range(size) if number not in excluded]
    code = b"".join(struct.pack("HBBI", *each) for each in _program(size, secret, excluded, others))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HL", len(code) // 8, ctypes.addressof(buffer))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, program)


def _program(size: int, secret: int, excluded: Collection[int], others: list[int]) -> list[_Instruction]:
    to_others = [(_JUMP_IF_EQUAL, 0, 1, number) for number in excluded]
    last = 2 * len(to_others)
    return [
        # The version of IP, and by it the first two bytes after its header: the port of the client.
        (_LOAD_BYTE, 0, 0, _NETWORK_HEADER),
        (_SHIFT_RIGHT, 0, 0, 4),
        (_JUMP_IF_EQUAL, 3, 0, _IPV6),
        (_HEADER_LENGTH, 0, 0, _NETWORK_HEADER),
        (_LOAD_HALF_INDEXED, 0, 0, _NETWORK_HEADER),
        (_JUMP, 0, 0, 1),
        (_LOAD_HALF, 0, 0, _NETWORK_HEADER + _IPV6_HEADER_BYTES),
        # The natural socket, unless it is excluded.
        (_EXCLUSIVE_OR, 0, 0, secret),
        (_MULTIPLY, 0, 0, _SPREAD),
        (_SHIFT_RIGHT, 0, 0, 16),
        (_MULTIPLY, 0, 0, size),
        (_STORE, 0, 0, 0),
        (_SHIFT_RIGHT, 0, 0, 16),
        *(
            each
            for place, check in enumerate(to_others)
            for each in (check, (_JUMP, 0, 0, last - 2 * place - 1))
        ),
        (_RETURN_COMPUTED, 0, 0, 0),
        # One of the others.
        (_LOAD_MEMORY, 0, 0, 0),
        (_AND, 0, 0, 2**16 - 1),
        (_MULTIPLY, 0, 0, len(others)),
        (_SHIFT_RIGHT, 0, 0, 16),
        *(
            each
            for place, number in enumerate(others)
            for each in ((_JUMP_IF_EQUAL, 0, 1, place), (_RETURN, 0, 0, number))
        ),
        (_RETURN, 0, 0, _NO_SOCKET),
    ]
