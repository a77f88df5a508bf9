"""Addresses without the passwords in them, for messages and logs."""

import re

IN_ADDRESS = re.compile(r"(://[^\s/:@]*):[^\s/@]+@")
IN_QUERY = re.compile(r"([?&](?:password|sslpassword|passfile|token)=)[^\s&'\"]+")


def hide(text: str) -> str:
    """Replace the password of every address in a text with three asterisks."""
    return IN_QUERY.sub(r"\1***", IN_ADDRESS.sub(r"\1:***@", text))
