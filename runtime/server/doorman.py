"""Stands before every call: asks who calls, counts streams, and refuses with the right status.

Single calls are judged here as a whole. Of a stream, each frame names its own model: the caller goes along
(`identity.calling`) and judges them where they are read. Health stays open: load balancers have no identity.
"""

from __future__ import annotations

import contextlib
import inspect
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
import grpc.aio

from isthmus.runtime.errors import AccessError, BusyError
from isthmus.runtime.server.identity import Caller, Evidence, Gate, enter
from isthmus.runtime.server.refusals import refuse
from isthmus.runtime.wire.names import SERVICE_NAME
from isthmus.runtime.wire.tls import AUTHORIZATION, BEARER

_OPEN = ("/grpc.health.v1.Health/",)
_CHANGES = frozenset({"RepositoryModelLoad", "RepositoryModelUnload"})
_INFER = "ModelInfer"

Context = Any


class Doorman(grpc.aio.ServerInterceptor):
    """Judges every call by a gate."""

    def __init__(self, gate: Gate) -> None:
        """Stand before the calls of the server that `gate` belongs to."""
        self._gate = gate

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the method's handler, behind the gate."""
        handler = await continuation(details)
        if handler is None or details.method.startswith(_OPEN):
            return handler
        method = details.method.rpartition("/")[2]
        ours = details.method == f"/{SERVICE_NAME}/{method}"
        token = _bearer(details.invocation_metadata)
        if handler.response_streaming:
            made = self._streaming(handler.stream_stream or handler.unary_stream, token)
            kind = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
        else:
            made = self._single(handler.unary_unary or handler.stream_unary, token, method if ours else "")
            kind = (
                grpc.stream_unary_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
        return kind(made, handler.request_deserializer, handler.response_serializer)

    def _single(self, inner: Any, token: str | None, method: str) -> Any:
        async def answer(request: Any, context: Context) -> Any:
            try:
                caller = Caller(self._gate, _evidence(context, token))
                if method:
                    _check(caller, method, request)
                with _holding(caller) if method == _INFER else contextlib.nullcontext():
                    enter(caller)
                    return await inner(request, context)
            except (AccessError, BusyError) as error:
                await refuse(context, error)

        return answer

    def _streaming(self, inner: Any, token: str | None) -> Any:
        async def answer(request: Any, context: Context) -> AsyncIterator[Any]:
            async with self._stream(context, token), contextlib.aclosing(inner(request, context)) as answers:
                async for message in answers:
                    yield message

        async def serve(request: Any, context: Context) -> None:
            async with self._stream(context, token):
                await inner(request, context)

        # A method that reads and writes by itself is no generator, and must not become one.
        return serve if inspect.iscoroutinefunction(inner) else answer

    @contextlib.asynccontextmanager
    async def _stream(self, context: Context, token: str | None) -> AsyncIterator[None]:
        """Judge the caller and hold one of its streams."""
        try:
            caller = Caller(self._gate, _evidence(context, token))
            self._gate.limits.open_stream(caller.name)
        except (AccessError, BusyError) as error:
            await refuse(context, error)
        enter(caller)
        try:
            yield
        finally:
            self._gate.limits.close_stream(caller.name)


@contextlib.contextmanager
def _holding(caller: Caller) -> Iterator[None]:
    """Hold one frame's credit."""
    caller.take()
    try:
        yield
    finally:
        caller.give()


def _check(caller: Caller, method: str, request: Any) -> None:
    if request is None:  # no message: the method says so itself
        return
    if method in _CHANGES:
        caller.check_operator(changes=True)
        return
    named = next(
        (getattr(request, field) for field in ("model_name", "name") if hasattr(request, field)), None
    )
    if named:
        caller.check(named)
    elif named == "" or method == "RepositoryIndex":
        caller.check_operator(changes=False)


def _evidence(context: Context, token: str | None) -> Evidence:
    shown = context.auth_context()
    names = shown.get("x509_common_name") or shown.get("x509_subject_alternative_name") or [b""]
    pem = shown.get("x509_pem_cert")
    return Evidence(
        host=_host(context.peer()),
        certificate_pem=pem[0].decode("ascii", errors="replace") if pem else None,
        name=names[0].decode("utf-8", errors="replace"),
        token=token,
    )


def _host(peer: str) -> str:
    """Return the address in gRPC's `ipv4:1.2.3.4:5` or `ipv6:%5B::1%5D:5`."""
    kind, _, rest = urllib.parse.unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else peer


def _bearer(metadata: Any) -> str | None:
    for key, value in metadata or ():
        if key == AUTHORIZATION and isinstance(value, str) and value.startswith(BEARER):
            return value[len(BEARER) :].strip()
    return None
