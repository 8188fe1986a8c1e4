"""The baseline of fan-out: `websockets` and its `broadcast`, as its documentation does it, under uvloop.

    python -m loadtests.baseline_broadcast PORT

Commands on standard input, `COUNT SIZE BATCH`: broadcast so many messages of that size, so many between two turns of
the event loop. Each is answered with the time at which it began.
"""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve


async def main(port: int) -> None:
    """Serve until standard input ends."""
    connections: set[ServerConnection] = set()

    async def handler(connection: ServerConnection) -> None:
        connections.add(connection)
        try:
            await connection.wait_closed()
        finally:
            connections.discard(connection)

    async with serve(handler, "127.0.0.1", port, compression=None, ping_interval=None):
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
            count, size, batch = map(int, line.split())
            began = time.perf_counter()
            for number in range(count):
                head = f'{{"t":"pongs","d":{{"n":{number},"sent_ns":{time.perf_counter_ns()},"note":"'
                broadcast(connections, head + "x" * (size - len(head) - 3) + '"}}')
                if number % batch == batch - 1:
                    await asyncio.sleep(0)
            print(began, flush=True)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
