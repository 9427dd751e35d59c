"""Handlers that start only when their caller is known: for all kinds of RPCs, asynchronous or not."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any

import grpc

from authsvc.client.identity import Identity, set_current
from authsvc.client.refusal import Refusal

# Returns the caller for the context of a call, or raises Refusal.
Identify = Callable[[Any], Awaitable[Identity]]

_KINDS: dict[tuple[bool, bool], tuple[str, Callable[..., Any]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


def guarded(handler: Any, identify: Identify, loop: asyncio.AbstractEventLoop) -> Any:
    """Return a handler that calls `identify` on `loop` before it calls `handler`."""
    name, make = _KINDS[bool(handler.request_streaming), bool(handler.response_streaming)]
    serve = getattr(handler, name)
    # gRPC distinguishes them in the same way, and runs handlers that are not async in threads.
    if inspect.isasyncgenfunction(serve):
        behaviour = _async_stream(serve, identify)
    elif inspect.iscoroutinefunction(serve):
        behaviour = _async(serve, identify)
    elif handler.response_streaming:
        behaviour = _sync_stream(serve, identify, loop)
    else:
        behaviour = _sync(serve, identify, loop)
    return make(behaviour, handler.request_deserializer, handler.response_serializer)


def _async(serve: Callable[..., Awaitable[Any]], identify: Identify) -> Callable[..., Any]:
    async def behaviour(request: Any, context: Any) -> Any:
        set_current(await _let_in(identify, context))
        return await serve(request, context)

    return behaviour


def _async_stream(serve: Callable[..., Any], identify: Identify) -> Callable[..., Any]:
    async def behaviour(request: Any, context: Any) -> AsyncIterator[Any]:
        set_current(await _let_in(identify, context))
        async with aclosing(serve(request, context)) as responses:
            async for response in responses:
                yield response

    return behaviour


def _sync(
    serve: Callable[..., Any], identify: Identify, loop: asyncio.AbstractEventLoop
) -> Callable[..., Any]:
    def behaviour(request: Any, context: Any) -> Any:
        set_current(_let_in_from_a_thread(identify, context, loop))
        try:
            return serve(request, context)
        finally:
            set_current(None)  # the thread will serve other calls

    return behaviour


def _sync_stream(
    serve: Callable[..., Any], identify: Identify, loop: asyncio.AbstractEventLoop
) -> Callable[..., Any]:
    def behaviour(request: Any, context: Any) -> Iterator[Any]:
        set_current(_let_in_from_a_thread(identify, context, loop))
        try:
            yield from serve(request, context)
        finally:
            set_current(None)

    return behaviour


async def _let_in(identify: Identify, context: Any) -> Identity:
    try:
        return await identify(context)
    except Refusal as refusal:
        await context.abort(refusal.code, refusal.message, refusal.trailers)
    raise AssertionError("abort always raises")


def _let_in_from_a_thread(identify: Identify, context: Any, loop: asyncio.AbstractEventLoop) -> Identity:
    async def ask() -> Identity:
        return await identify(context)

    try:
        return asyncio.run_coroutine_threadsafe(ask(), loop).result()
    except Refusal as refusal:
        context.abort(refusal.code, refusal.message, refusal.trailers)
    raise AssertionError("abort always raises")
