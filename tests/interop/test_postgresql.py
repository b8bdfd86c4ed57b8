"""PostgreSQL and psql, whose client asks for TLS by a message of its own before it says anything else."""

from pathlib import Path

import pytest

from tests.interop.overheard import overheard
from tests.stage import Stage, program
from tests.stage.place import Version

PORT = 5432
BINARIES = "/usr/lib/postgresql/*/bin/"
# The server declines to run as root.
USER = "postgres"
ROWS = 100_000


@pytest.fixture(scope="module")
def server(hosts: Stage) -> None:
    data = hosts.b.folder / "postgresql"
    data.mkdir()
    as_user = [program("setpriv"), f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--"]
    hosts.b.run(["chown", USER, str(data)])
    initdb = [program(f"{BINARIES}initdb"), "--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", str(data)]
    hosts.b.run([*as_user, *initdb], cwd=Path("/"))
    with (data / "pg_hba.conf").open("a") as file:
        file.write("host all all 198.18.0.0/15 trust\nhost all all fd00::/8 trust\n")
    options = {"listen_addresses": "*", "port": str(PORT), "unix_socket_directories": "", "fsync": "off", "ssl": "off"}
    hosts.b.spawn(
        [program(f"{BINARIES}postgres"), "-D", str(data), *(f"--{name}={value}" for name, value in options.items())],
        user=USER,
        ready=lambda: _answers(hosts),
        cwd=Path("/"),
    )


def _answers(hosts: Stage) -> bool:
    """On its own loopback, where nothing is covered: it listens before it is ready to serve."""
    asked = [program(f"{BINARIES}pg_isready"), "--host=127.0.0.1", f"--port={PORT}", "--quiet", f"--username={USER}"]
    return hosts.b.run(asked, check=False).returncode == 0


def psql(hosts: Stage, version: Version = 4, **options: str) -> list[str]:
    given = {"host": hosts.b.address(version), "port": str(PORT), "user": USER, "dbname": "postgres", **options}
    connection = " ".join(f"{name}={value}" for name, value in given.items())
    return [program(f"{BINARIES}psql"), "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", connection]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("version", [4, 6])
def test_a_query_is_answered_and_the_server_sees_who_asks(hosts: Stage, version: Version) -> None:
    question = "select 'word-of-' || 'the-server', inet_client_addr() -- word-of-the-client"
    with overheard(hosts, PORT, b"word-of-the-server", b"word-of-the-client", version=version):
        answer = hosts.a.run([*psql(hosts, version), "-c", question])
    assert answer.stdout.decode().strip() == f"word-of-the-server|{hosts.a.address(version)}"


@pytest.mark.usefixtures("server")
def test_a_table_is_copied_in_and_out(hosts: Stage) -> None:
    rows = "".join(f"{number}\ta row that could be read {number}\n" for number in range(ROWS)).encode()
    with overheard(hosts, PORT, b"a row that could be read 99999"):
        hosts.a.run([*psql(hosts), "-c", "create table copied (number int, words text)"])
        hosts.a.run([*psql(hosts), "-c", "copy copied from stdin"], input=rows)
        answer = hosts.a.run([*psql(hosts), "-c", "copy (select * from copied order by number) to stdout"])
    assert answer.stdout == rows


@pytest.mark.usefixtures("server")
def test_an_error_is_the_servers_own(hosts: Stage) -> None:
    with overheard(hosts, PORT, b"no_such_table"):
        answer = hosts.a.run([*psql(hosts), "-c", "select * from no_such_table"], check=False)
    assert answer.returncode != 0
    assert b'relation "no_such_table" does not exist' in answer.stderr


@pytest.mark.usefixtures("server")
def test_tls_of_its_own_that_the_server_lacks_stays_the_programs_own_matter(hosts: Stage) -> None:
    answer = hosts.a.run([*psql(hosts, sslmode="require"), "-c", "select 1"], check=False)
    assert answer.returncode != 0
    assert b"server does not support SSL, but SSL was required" in answer.stderr
