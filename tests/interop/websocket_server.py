"""A WebSocket server on [::]:PORT: tells each client its address first, then sends back what it gets."""

import asyncio
import sys

from websockets.asyncio.server import ServerConnection, serve


async def converse(client: ServerConnection) -> None:
    await client.send(f"you are {client.remote_address[0]}")
    async for message in client:
        await client.send(message)


async def main() -> None:
    async with serve(converse, None, int(sys.argv[1]), max_size=None) as server:
        await server.serve_forever()


asyncio.run(main())
