"""Who is at work."""

import getpass
import socket


def person() -> str:
    """User and machine."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def at_a_terminal() -> str:
    """On whose behalf a command works."""
    return f"{person()}, from a terminal"
