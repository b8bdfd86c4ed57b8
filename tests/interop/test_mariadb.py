"""MariaDB, whose server speaks first."""

from pathlib import Path

import pytest

from tests.interop.overheard import overheard
from tests.stage import Stage, program

PORT = 3306
# Neither end is to bring TLS of its own, which later versions do.
BARE = "--skip-ssl"
INIT = "CREATE USER IF NOT EXISTS 'guest'@'%' IDENTIFIED BY 'guess';\nGRANT ALL ON *.* TO 'guest'@'%';\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, hosts: Stage) -> Path:
    folder = tmp_path_factory.mktemp("mariadb")
    hosts.b.run(
        [
            *(program("mariadb-install-db"), "--no-defaults", "--user=root", f"--datadir={folder / 'data'}"),
            *("--auth-root-authentication-method=normal", "--skip-test-db"),
        ],
    )
    return folder


@pytest.fixture(scope="module")
def server(data: Path, hosts: Stage) -> None:
    init = data / "init.sql"
    init.write_text(INIT)
    hosts.b.spawn(
        [
            *(program("mariadbd"), "--no-defaults", "--user=root", f"--datadir={data / 'data'}", f"--port={PORT}"),
            *(f"--socket={data / 'socket'}", f"--pid-file={data / 'pid'}", f"--init-file={init}", BARE),
            *("--bind-address=*", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0"),
        ],
        ready=PORT,
    )


def mariadb(hosts: Stage, question: str) -> list[str]:
    return [
        *(program("mariadb"), "--no-defaults", BARE, "--host", hosts.b.ipv4, f"--port={PORT}"),
        *("--user=guest", "--password=guess", "--batch", "--skip-column-names", "--database=mysql", "-e", question),
    ]


@pytest.mark.usefixtures("server")
def test_a_query_is_answered_and_the_server_sees_who_asks(hosts: Stage) -> None:
    question = "select concat('word-of-', 'the-server'), user() as word_of_the_client"
    with overheard(hosts, PORT, b"word-of-the-server", b"word_of_the_client", b"mysql_native_password"):
        answer = hosts.a.run(mariadb(hosts, question))
    assert answer.stdout.decode().split() == ["word-of-the-server", f"guest@{hosts.a.ipv4}"]


@pytest.mark.usefixtures("server")
def test_a_big_answer_arrives_as_it_is(hosts: Stage) -> None:
    with overheard(hosts, PORT, b"row-of-many-19999\n"[:-1]):
        answer = hosts.a.run(mariadb(hosts, "select concat('row-of-many-', seq) from seq_0_to_19999"))
    assert answer.stdout.decode().split() == [f"row-of-many-{number}" for number in range(20_000)]


@pytest.mark.usefixtures("server")
def test_a_wrong_password_is_the_servers_own_matter(hosts: Stage) -> None:
    with overheard(hosts, PORT, b"Access denied for user"):
        answer = hosts.a.run([*mariadb(hosts, "select 1"), "--password=wrong"], check=False)
    assert f"Access denied for user 'guest'@'{hosts.a.ipv4}'".encode() in answer.stderr
