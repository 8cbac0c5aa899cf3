"""Writes all frames between this host and others to a file, until its standard input ends."""

import select
import socket
import sys

ETH_P_ALL = 3

with (
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as wire,
    open(sys.argv[1], "wb") as file,
):
    (outside,) = (name for _index, name in socket.if_nameindex() if name != "lo")
    wire.bind((outside, 0))
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([wire, sys.stdin], [], [])
        if wire in readable:
            file.write(wire.recv(1 << 17))
        elif sys.stdin in readable:
            break
