"""SMTP, whose server speaks first and whose client says nothing until it has.

The server is aiosmtpd: a mail server from the distribution would push out the one that a machine has."""

import sys

import pytest

from tests.interop.overheard import overheard
from tests.interop.web_server import curl
from tests.stage import Process, Stage, eventually

PORT = 2525
LETTER = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: a letter\r\n\r\nwords-of-the-letter\r\n"
# A client of the standard library: the letter on its standard input.
PYTHON_CLIENT = """
import smtplib, sys
with smtplib.SMTP(sys.argv[1], int(sys.argv[2]), timeout=25) as server:
    server.sendmail("a@example.org", ["b@example.org"], sys.stdin.buffer.read())
"""


@pytest.fixture
def server(hosts: Stage) -> Process:
    """A fresh one for each test: it prints what it has received."""
    command = [sys.executable, "-m", "aiosmtpd", "-n", "-l", f"0.0.0.0:{PORT}"]
    return hosts.b.spawn([*command, "-c", "aiosmtpd.handlers.Debugging", "stdout"], ready=PORT, name="smtp")


def test_a_letter_from_curl_arrives_and_the_server_sees_who_sends(hosts: Stage, server: Process) -> None:
    envelope = ("--mail-from", "a@example.org", "--mail-rcpt", "b@example.org", "--upload-file", "-")
    with overheard(hosts, PORT, b"words-of-the-letter", b"EHLO", b"220 "):
        hosts.a.run(curl(*envelope, f"smtp://{hosts.b.ipv4}:{PORT}"), input=LETTER)
    assert_arrived(hosts, server)


def test_a_letter_from_smtplib_arrives_and_the_server_sees_who_sends(hosts: Stage, server: Process) -> None:
    with overheard(hosts, PORT, b"words-of-the-letter", b"ehlo", b"220 "):
        hosts.a.run([sys.executable, "-c", PYTHON_CLIENT, hosts.b.ipv4, str(PORT)], input=LETTER)
    assert_arrived(hosts, server)


def assert_arrived(hosts: Stage, server: Process) -> None:
    eventually(lambda: "END MESSAGE" in server.output(), "the letter is printed", otherwise=server.output)
    assert "words-of-the-letter" in server.output()
    assert f"X-Peer: ('{hosts.a.ipv4}', " in server.output()
    server.stop()
