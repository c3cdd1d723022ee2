"""The floors, as a process: `echo_server.py tcp` over blocking sockets, `echo_server.py grpc` over grpc.aio.

`grpc` runs on the event loop that our server runs on, `grpc-plain` on asyncio's own. All read a message and
answer with as many bytes as its first four say (little-endian). Over TCP a message has eight bytes before it:
its length and that of the answer.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
import threading
from typing import Any

import grpc
import grpc.aio

from isthmus.runtime.wire import server_options

HEADER = struct.Struct("<II")
ANSWER = struct.Struct("<I")
METHOD = "/floor.Echo/Echo"
_LARGEST = 4 << 20


def receive(connection: socket.socket, into: memoryview) -> bool:
    """Fill `into` from `connection`; False if it was closed."""
    filled = 0
    while filled < len(into):
        count = connection.recv_into(into[filled:])
        if not count:
            return False
        filled += count
    return True


def _serve_connection(connection: socket.socket) -> None:
    buffer = memoryview(bytearray(_LARGEST))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        while receive(connection, buffer[: HEADER.size]):
            size, answer_bytes = HEADER.unpack_from(buffer)
            if not receive(connection, buffer[:size]):
                return
            connection.sendall(buffer[:answer_bytes])


def serve_tcp() -> None:
    """Serve blocking sockets, a thread each, until killed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve_connection, args=(connection,), daemon=True).start()


async def _echo(_requests: Any, context: Any) -> None:
    while (message := await context.read()) is not grpc.aio.EOF:
        (answer_bytes,) = ANSWER.unpack_from(message)
        await context.write(message[:answer_bytes])


async def serve_grpc() -> None:
    """Serve bidirectional streams of bytes until killed."""
    # A server with gRPC's defaults takes our channels' pings for an attack, and hangs up after a minute.
    server = grpc.aio.server(options=server_options())
    service, method = METHOD[1:].split("/")
    handlers = {method: grpc.stream_stream_rpc_method_handler(_echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"port": port}), flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    if sys.argv[1] == "tcp":
        serve_tcp()
    elif sys.argv[1] == "grpc":
        from isthmus.runtime.server.event_loop import run_server

        run_server(serve_grpc())
    else:
        asyncio.run(serve_grpc())
