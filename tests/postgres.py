"""A PostgreSQL server of one's own, in a temporary folder, on loopback, with a password.

PostgreSQL refuses to run as root: then it runs as its own user, or as nobody.
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
    if found := shutil.which("initdb"):
        return Path(found).parent
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return places[-1].parent if places else None


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
    """A server of its own user, and the databases in it."""

    def __init__(self, programs: Path, folder: Path, port: int) -> None:
        self.programs, self.folder, self.port = programs, folder, port

    def create(self) -> None:
        """Make the cluster, with a password that clients must give."""
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
        self.tell(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.address(name)

    def address(self, database: str) -> str:
        """Address of a database, with its password."""
        return f"postgresql://{USER}:{quote(PASSWORD)}@127.0.0.1:{self.port}/{database}"

    def tell(self, command: str) -> None:
        """Do something in the server itself."""
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
    # pg_ctl hands its output on to the server, which a pipe would wait for
    with (folder / "told").open("wb") as told:
        done = subprocess.run(command, cwd="/", stdout=told, stderr=told, check=False, **identity)  # type: ignore[call-overload]
    assert done.returncode == 0, (folder / "told").read_text()


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError("found neither a user postgres nor nobody; PostgreSQL refuses root")
