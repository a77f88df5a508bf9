"""Who is at work."""

import getpass
import socket


def person() -> str:
    """User and machine."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
