"""Run in a throw-away network namespace: proves that an open TCP connection can be closed from outside its process.

Exit status 0 if so; else 1, with the reason as the last line."""

from __future__ import annotations

import contextlib
import errno
import socket
import subprocess
import sys


def main() -> int:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with contextlib.ExitStack() as open_sockets:
        listener = open_sockets.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = open_sockets.enter_context(socket.create_connection(listener.getsockname()))
        open_sockets.enter_context(listener.accept()[0])
        port = client.getsockname()[1]
        killed = subprocess.run(
            ["ss", "--kill", "--tcp", "--no-header", f"sport = {port}"], capture_output=True, text=True, check=False
        )
        if killed.returncode != 0:
            print(killed.stderr.strip() or "ss --kill failed")
            return 1
        client.settimeout(1)
        try:
            client.recv(1)
        except ConnectionAbortedError:
            return 0
        except OSError as error:
            # Nothing was closed: the connection is silent, as it was.
            print("the kernel does not close sockets" if error.errno is None else errno.errorcode[error.errno])
            return 1
        print("the kernel does not close sockets")
        return 1


if __name__ == "__main__":
    sys.exit(main())
