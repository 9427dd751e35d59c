"""The size of answers: a client with gRPC's default settings can read each of them.

Mechanism: gRPC clients refuse a message of more than 4 MiB. What can have any number of items, or long ones,
gets them one by one until their encoded bytes reach `MAX_BYTES`. A page then ends early, with a
`next_page_token`; the answer of a batch says in its proto what it leaves out. All other answers are bounded
by the rules of their fields.

Bound: `MAX_BYTES` of items, or one item. `tests/rpc/test_answer_size.py` adds up the longest values of all
fields, so that no RPC can be forgotten.

Failure: InvalidArgument for a read that asks for too much. A change must not fail for the size of its answer,
because it is done by then; so its answer must have a short form that always fits.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.model.page import Page

Item = TypeVar("Item")
Converted = TypeVar("Converted", bound=Message)

#: What the items of an answer may take together. 1000 usual keys take a third of that.
MAX_BYTES = 2 * 1024 * 1024
#: What clients accept unless they are configured otherwise.
CLIENT_BYTES = 4 * 1024 * 1024
# The tag and the length of an item, at most.
_FRAME_BYTES = 5
# Items and bytes that are converted before other tasks run. A usual item takes some 50 microseconds.
_SLICE_ITEMS, _SLICE_BYTES = 25, 64 * 1024


async def fitting(
    items: Sequence[Item], convert: Callable[[Item], Converted], *, max_bytes: int = MAX_BYTES
) -> list[Converted]:
    """Return the first items as messages: as many as fit into an answer, but at least one."""
    messages: list[Converted] = []
    left, pause = max_bytes, max_bytes - _SLICE_BYTES
    for item in items:
        message = convert(item)
        left -= message.ByteSize() + _FRAME_BYTES
        if left < 0 and messages:
            break
        messages.append(message)
        if len(messages) % _SLICE_ITEMS == 0 or left < pause:
            pause = left - _SLICE_BYTES
            await asyncio.sleep(0)
    return messages


async def shown(page: Page[Item], convert: Callable[[Item], Converted]) -> tuple[list[Converted], str]:
    """Return the items of a page that fit into an answer as messages, and the token of the next page."""
    messages = await fitting(page.items, convert)
    return messages, page.token_after(len(messages))


def refuse_too_large(size: int) -> None:
    """Raise InvalidArgument if clients could not read an answer of `size` bytes."""
    if size > CLIENT_BYTES:
        problem = (
            f"asks for an answer of {size} bytes, and gRPC clients accept {CLIENT_BYTES} by default; ask for "
            "less at a time"
        )
        raise InvalidArgument(FieldViolation("", "request.answer_size", problem))
