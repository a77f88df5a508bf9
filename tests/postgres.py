"""A private PostgreSQL server in a temporary folder, on loopback, with a password.

PostgreSQL refuses to run as root. For root, the server runs as the user postgres or nobody.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import quote

from tests.ports import free_port

PASSWORD = "s3cret&word"
USER = "keeper"
CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
max_connections = 200
"""


def programs() -> Path | None:
    """Folder of initdb and pg_ctl, the newest where there are several."""
    if initdb := shutil.which("initdb"):
        return Path(initdb).parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return installed[-1].parent if installed else None


@contextmanager
def serve() -> Iterator["Server"]:
    """Start a server in an empty folder; stop it and remove the folder at the end."""
    bin_folder = programs()
    assert bin_folder is not None, "PostgreSQL's initdb is not on this machine"
    folder = Path(mkdtemp(prefix="postgres-", dir="/tmp"))
    server = Server(bin_folder, folder, free_port())
    try:
        server.create()
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder)


class Server:
    """A PostgreSQL server and its databases."""

    def __init__(self, programs: Path, folder: Path, port: int) -> None:
        self.programs, self.folder, self.port = programs, folder, port

    def create(self) -> None:
        """Create the database cluster, with a password that clients must send."""
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            user = _unprivileged()
            for path in (self.folder, secret):
                os.chown(path, user.pw_uid, user.pw_gid)
        options = ["--auth=scram-sha-256", f"--pwfile={secret}", f"--username={USER}", "--no-sync"]
        self._do("initdb", "--pgdata", str(self.data), "--encoding=UTF8", *options)
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(f"{CONFIGURATION}port = {self.port}\n")

    def start(self) -> None:
        """Start, and wait until it answers."""
        log = str(self.folder / "log")
        self._do("pg_ctl", "--pgdata", str(self.data), "--wait", "--log", log, "start")

    def stop(self) -> None:
        """Stop at once."""
        self._do("pg_ctl", "--pgdata", str(self.data), "--wait", "--mode=immediate", "stop")

    def database(self, name: str, template: str = "template1") -> str:
        """Address of a new database, empty or a copy of another."""
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.address(name)

    def address(self, database: str) -> str:
        """Address of a database, with its password."""
        return f"postgresql://{USER}:{quote(PASSWORD)}@127.0.0.1:{self.port}/{database}"

    def execute(self, command: str) -> None:
        """Execute an SQL command on the server."""
        from sqlalchemy import NullPool, create_engine, text

        address = self.address("postgres")
        engine = create_engine(address, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(command))

    @property
    def data(self) -> Path:
        """Its cluster."""
        return self.folder / "data"

    def _do(self, program: str, *words: str) -> None:
        command = [str(self.programs / program), *words]
        identity = {}
        if os.geteuid() == 0:
            user = _unprivileged()
            identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        _run(command, self.folder, identity)


def _run(command: Sequence[str], folder: Path, identity: dict[str, object]) -> None:
    # The server inherits the output of pg_ctl: with a pipe, this call would wait for the server.
    with (folder / "output").open("wb") as output:
        done = subprocess.run(
            command, cwd="/", stdout=output, stderr=output, check=False, **identity
        )  # type: ignore[call-overload]
    assert done.returncode == 0, (folder / "output").read_text()


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError("found neither a user postgres nor nobody; PostgreSQL refuses root")
