"""Vault for a while: `tests/ratelock/vault`, a process of its own, with one token that is bound by a policy."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvac

from tests.stage.programs import go_program

_DOCUMENT = Path(__file__).parents[2] / "docs/ratelock.md"


def policy() -> str:
    """What docs/ratelock.md tells an operator to allow, for a key `ratelock`."""
    found = re.findall(r"^```hcl\n(.*?)^```$", _DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    assert len(found) == 1
    return str(found[0])


@dataclass(frozen=True)
class Vault:
    address: str
    root: Any
    """hvac's client, with the root's token."""
    token: str
    unseal_key: str

    def environment(self, token: str | None = None) -> dict[str, str]:
        return {"VAULT_ADDR": self.address, "VAULT_TOKEN": token or self.token}


@contextmanager
def running() -> Iterator[Vault]:
    """With the transit engine at `transit`, a key `ratelock` in it, and a token that may encrypt and decrypt by it."""
    with subprocess.Popen(
        [str(go_program("vault-for-tests"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            told = json.loads(process.stdout.readline())
            root = hvac.Client(url=told["address"], token=told["root_token"])
            root.sys.enable_secrets_engine("transit")
            root.secrets.transit.create_key("ratelock")
            root.sys.create_or_update_policy("ratelock", policy())
            token = root.auth.token.create(policies=["ratelock"])["auth"]["client_token"]
            yield Vault(told["address"], root, token, told["unseal_key"])
        finally:
            process.stdin.close()
            process.wait(timeout=10)
