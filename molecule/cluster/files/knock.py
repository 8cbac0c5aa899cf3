"""Knocks at a job server or its tunnel with a line of text, and prints what comes back.

Usage: knock.py HOST PORT plain LINE | tls CA [CERTIFICATE KEY]. TLS asks gearmand for its version.
Prints the answer, or "nothing: " and why. HOST may be NAME/ADDRESS.
"""

import socket
import ssl
import sys

host, port, how, *rest = sys.argv[1:]
name, _, address = host.partition("/")
line = "version"
try:
    connection = socket.create_connection((address or name, int(port)), timeout=20)
    if how == "tls":
        authority, *certificate = rest
        context = ssl.create_default_context(cafile=authority)
        if certificate:
            context.load_cert_chain(*certificate)
        connection = context.wrap_socket(connection, server_hostname=name)
    else:
        (line,) = rest
    connection.sendall(line.encode() + b"\r\n")
    print(connection.recv(1000).decode(errors="replace") or "nothing: end of file")
except OSError as error:
    print(f"nothing: {error}")
