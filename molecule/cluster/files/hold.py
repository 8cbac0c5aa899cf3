"""Holds a connection open and asks for the version, whenever a line comes in on standard input."""

import socket
import sys

host, port = sys.argv[1:]
with socket.create_connection((host, int(port)), timeout=20) as connection:
    for _line in sys.stdin:
        try:
            connection.sendall(b"version\r\n")
            answer = connection.recv(1000).decode().strip()
        except OSError as error:
            answer = f"nothing: {error}"
        print(answer or "nothing: end of file", flush=True)
