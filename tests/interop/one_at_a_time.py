"""A plaintext server on PORT that serves one connection at a time: says that it has one, then answers what it asks."""

import socket
import sys

with socket.create_server(("", int(sys.argv[1]))) as listener:
    while True:
        client, (address, _) = listener.accept()
        print("serves", address, flush=True)
        with client:
            try:
                if client.recv(4096).startswith(b"GET "):
                    client.sendall(b"HTTP/1.0 200 OK\r\n\r\nserved")
                else:
                    client.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            except ConnectionError:
                print("has lost", address, flush=True)
