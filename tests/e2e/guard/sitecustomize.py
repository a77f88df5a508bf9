"""Put on the module path of a process, refuses it and its children every network but loopback.

Each attempt is written as a line to the file that NETWORK_ATTEMPTS names.
"""

import ipaddress
import os
import socket
import sys
from pathlib import Path

ADDRESSED = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
    "socket.getnameinfo": 0,
}


def is_local(address: object) -> bool:
    host = address[0] if isinstance(address, tuple) else address
    if host in (None, "", b"", "localhost") or (isinstance(host, str) and host.startswith("/")):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse(event: str, args: tuple) -> None:
    position = ADDRESSED.get(event)
    if position is None or is_local(args[position]):
        return
    if isinstance(args[0], socket.socket) and args[0].family == socket.AF_UNIX:
        return
    with Path(os.environ["NETWORK_ATTEMPTS"]).open("a") as file:
        file.write(f"{event} {args[position]} {sys.argv}\n")
    raise OSError(f"the network is refused: {event} {args[position]}")


sys.addaudithook(refuse)
