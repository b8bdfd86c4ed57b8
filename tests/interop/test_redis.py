"""Redis: questions, a pipeline, and messages that the server sends when it likes."""

import pytest

from tests.interop.overheard import overheard
from tests.stage import Stage, program

PORT = 6379


@pytest.fixture(scope="module")
def server(hosts: Stage) -> None:
    hosts.b.spawn(
        [
            *(program("redis-server"), "--port", str(PORT), "--bind", "*", "-::*", "--protected-mode", "no"),
            *("--save", "", "--appendonly", "no", "--dir", str(hosts.b.folder)),
        ],
        ready=PORT,
    )


def redis(hosts: Stage, *words: str) -> list[str]:
    return [program("redis-cli"), "-h", hosts.b.ipv4, "-p", str(PORT), *words]


@pytest.mark.usefixtures("server")
def test_a_value_is_kept_and_the_server_sees_who_asks(hosts: Stage) -> None:
    with overheard(hosts, PORT, b"a-value-to-overhear"):
        assert hosts.a.run(redis(hosts, "set", "key", "a-value-to-overhear")).stdout.strip() == b"OK"
        assert hosts.a.run(redis(hosts, "get", "key")).stdout.strip() == b"a-value-to-overhear"
        clients = hosts.a.run(redis(hosts, "client", "list")).stdout.decode()
    assert f" addr={hosts.a.ipv4}:" in clients


@pytest.mark.usefixtures("server")
def test_ten_thousand_commands_in_one_pipeline(hosts: Stage) -> None:
    commands = "".join(f"SET piped-{number} piped-value-{number}\r\n" for number in range(10_000)).encode()
    with overheard(hosts, PORT, b"piped-value-9999"):
        answer = hosts.a.run(redis(hosts, "--pipe"), input=commands)
    assert b"errors: 0, replies: 10000" in answer.stdout


@pytest.mark.usefixtures("server")
def test_a_message_is_pushed_to_who_waits_for_it(hosts: Stage) -> None:
    with overheard(hosts, PORT, b"a-message-to-overhear"):
        listener = hosts.a.spawn(redis(hosts, "subscribe", "news"), name="subscribe")
        listener.says("subscribe")
        published = hosts.b.run([program("redis-cli"), "-p", str(PORT), "publish", "news", "a-message-to-overhear"])
        assert published.stdout.strip() == b"1"
        listener.says("a-message-to-overhear")
        listener.stop()
