"""Prints the server's first message, then what came back of each argument, then the length of a big message."""

import sys

from websockets.sync.client import connect

BIG = 1 << 20

with connect(sys.argv[1], compression=None, max_size=None) as server:
    print(server.recv())
    for word in sys.argv[2:]:
        server.send(word)
        print(server.recv())
    server.send(b"x" * BIG)
    print(len(server.recv()))
