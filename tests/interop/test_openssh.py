"""OpenSSH, whose server speaks first and brings encryption of its own: a login, and files there and back."""

from __future__ import annotations

import contextlib
import secrets
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.overheard import overheard
from tests.interop.web_server import sha256
from tests.stage import Stage, program

PORT = 2222
BIG = 8 << 20
# sshd's privilege separation has this folder built in (sshd(8), FILES); a service would have made it.
EMPTY = Path("/run/sshd")
# RFC 4253, section 4.2: both ends begin with it in clear.
GREETING = b"SSH-2.0-OpenSSH"


@pytest.fixture(scope="module")
def empty_folder() -> Iterator[None]:
    made = not EMPTY.exists()
    EMPTY.mkdir(mode=0o755, exist_ok=True)
    yield
    if made:
        with contextlib.suppress(OSError):
            EMPTY.rmdir()


@pytest.fixture(scope="module")
def keys(hosts: Stage) -> Path:
    folder = hosts.folder / "ssh"
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        hosts.b.run([program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)])
    (folder / "known").write_text(f"[{hosts.b.ipv4}]:{PORT} {(folder / 'host.pub').read_text()}")
    return folder


@pytest.fixture(scope="module")
def server(hosts: Stage, keys: Path, empty_folder: None) -> None:
    configuration = keys / "sshd_config"
    lines = (
        *(f"Port {PORT}", f"HostKey {keys / 'host'}", f"AuthorizedKeysFile {keys / 'user.pub'}", "PidFile none"),
        *("PermitRootLogin prohibit-password", "PasswordAuthentication no", "StrictModes no", "UseDNS no"),
        # Without PAM sshd refuses an account whose password is locked, as root's is on many machines.
        *(f"UsePAM {'yes' if _locked('root') else 'no'}", "Subsystem sftp internal-sftp"),
    )
    configuration.write_text("\n".join(lines) + "\n")
    hosts.b.spawn([program("sshd"), "-D", "-e", "-f", str(configuration)], ready=PORT)


def _locked(user: str) -> bool:
    fields = next(
        line.split(":") for line in Path("/etc/shadow").read_text().splitlines() if line.startswith(f"{user}:")
    )
    return fields[1].startswith("!")


def options(keys: Path) -> list[str]:
    return [
        *("-F", "none", "-i", str(keys / "user"), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"),
        *("-o", f"UserKnownHostsFile={keys / 'known'}", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"),
        *("-o", "LogLevel=ERROR"),
    ]


@pytest.mark.usefixtures("server")
def test_a_login_by_key_runs_a_command_and_the_server_sees_who_comes(hosts: Stage, keys: Path) -> None:
    ssh = [program("ssh"), *options(keys), "-p", str(PORT), f"root@{hosts.b.ipv4}"]
    with overheard(hosts, PORT, GREETING):
        answer = hosts.a.run([*ssh, "echo $SSH_CONNECTION; cat"], input=b"what was typed\n")
    connection, typed = answer.stdout.decode().splitlines()
    client, _, server, port = connection.split()
    assert (client, server, port, typed) == (hosts.a.ipv4, hosts.b.ipv4, str(PORT), "what was typed")


@pytest.mark.usefixtures("server")
def test_a_commands_exit_status_comes_back(hosts: Stage, keys: Path) -> None:
    ssh = [program("ssh"), *options(keys), "-p", str(PORT), f"root@{hosts.b.ipv4}"]
    with overheard(hosts, PORT, GREETING):
        assert hosts.a.run([*ssh, "exit 7"], check=False).returncode == 7


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("client", ["scp", "sftp"])
def test_a_file_goes_there_and_comes_back_as_it_was(hosts: Stage, keys: Path, client: str) -> None:
    original, there, back = (hosts.folder / f"{client}-{name}" for name in ("original", "there", "back"))
    original.write_bytes(secrets.token_bytes(BIG))
    command = [program(client), "-P", str(PORT), *options(keys)]
    remote = f"root@{hosts.b.ipv4}"
    with overheard(hosts, PORT, GREETING):
        if client == "scp":
            hosts.a.run([*command, str(original), f"{remote}:{there}"])
            hosts.a.run([*command, f"{remote}:{there}", str(back)])
        else:
            batch = f"put {shlex.quote(str(original))} {there}\nget {there} {shlex.quote(str(back))}\n"
            hosts.a.run([*command, "-b", "-", remote], input=batch.encode())
    assert sha256(there) == sha256(original) == sha256(back)
