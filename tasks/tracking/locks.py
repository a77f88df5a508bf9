"""Locks for one process at a time: by a file, and for all machines by a lock in PostgreSQL.

Both are released when their holder dies: the system closes the file, and PostgreSQL releases the
lock when its connection ends.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock

from tasks.tracking import address

CONNECT_SECONDS = 10


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Wait until no other process holds the lock with this name, and hold it.

    With a PostgreSQL database as the store, the lock covers all machines. MLflow's server and other
    databases offer no lock: there, users must not run two machines at the same time.
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
    limits = {"connect_timeout": CONNECT_SECONDS} if "psycopg" in _driver(url) else {}
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
    """The number of a lock in PostgreSQL: 64 bits, signed."""
    digest = hashlib.sha256(f"crosstrain {name}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)
