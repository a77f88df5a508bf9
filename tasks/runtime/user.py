"""The user on whose behalf a command runs."""

import getpass
import socket


def person() -> str:
    """User name and host name, as ``user@host``."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def at_a_terminal() -> str:
    """The user and host, marked as a command from a terminal."""
    return f"{person()}, from a terminal"
