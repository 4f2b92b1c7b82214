"""A server of recordings that costs little: every path has the same sound, written from memory.

Each connection is given so many bytes a second at most, as by a line of that width; 0 means as fast as it takes them.
"""

import asyncio
import sys

SLICE_S = 0.05  # of a line: what it carries in this time is written at once
HEAD = b"RIFF\xff\xff\xff\xffWAVEfmt "


async def serve(size: int, rate: int) -> None:
    """Prints its port on a line. For ever."""
    sound = HEAD + bytes(size - len(HEAD))
    step = int(rate * SLICE_S) if rate else 256 * 1024
    head = b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % size

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        view, due = memoryview(sound), asyncio.get_running_loop().time()
        for start in range(0, size, step):
            writer.write(view[start : start + step])
            await writer.drain()
            due += SLICE_S if rate else 0
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()) if rate else 0)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
