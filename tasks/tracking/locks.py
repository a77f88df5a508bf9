"""One process at a time: by a file, and on all machines by a lock in PostgreSQL.

Both are let go when their holder dies: the system closes the file, and PostgreSQL ends the lock
with the connection that took it.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock

from tasks.tracking import address

PATIENCE = 10  # seconds for a connection


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Wait until no other process holds the lock of this name, and hold it.

    Processes of other machines count where the store is a PostgreSQL database. MLflow's server
    and other databases offer no lock, so there the machines themselves must take turns.
    """
    folder = address.folder()
    folder.mkdir(exist_ok=True)
    with FileLock(folder / f".{name}.lock"):
        if address.kind() == "postgresql":
            with _advisory(name):
                yield
        else:
            yield


def is_everywhere() -> bool:
    """Whether a lock holds for every process that can use the store."""
    return address.kind() in {"sqlite", "postgresql"}


@contextmanager
def _advisory(name: str) -> Iterator[None]:
    from sqlalchemy import NullPool, create_engine, text

    url = address.uri()
    limits = {"connect_timeout": PATIENCE} if "psycopg" in _driver(url) else {}
    engine = create_engine(
        url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=limits
    )
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": key(name)})
        yield


def _driver(url: str) -> str:
    from sqlalchemy import make_url

    return make_url(url).get_driver_name()


def key(name: str) -> int:
    """The number by which PostgreSQL knows a lock: 64 bits, signed."""
    digest = hashlib.sha256(f"crosstrain {name}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)
