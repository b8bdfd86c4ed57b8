"""A key-encryption key that never leaves AWS KMS. What is wrapped is bound to its secret by the encryption context,
which CloudTrail writes down in clear: AWS's own log says which secret was opened, and when.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.faults import KeyUnreachable, SealingError

# KMS API reference, errors of Encrypt and Decrypt, and of throttling: those that pass by themselves.
_PASSING = frozenset(
    {"DependencyTimeoutException", "KMSInternalException", "KeyUnavailableException", "ThrottlingException"}
)


class KmsKey:
    """`client`: boto3's of KMS, whose time limits and retries are its own. `arn`: of the key; an alias may come to mean
    another key, which would not open what the first has sealed."""

    def __init__(self, client: Any, arn: str) -> None:
        if ":key/" not in arn or not arn.startswith("arn:"):
            raise RequestError(
                f"{arn} is no ARN of a KMS key", remedy="give arn:aws:kms:REGION:ACCOUNT:key/ID, not an alias"
            )
        self._client = client
        self._arn = arn

    @property
    def id(self) -> str:
        return self._arn

    async def wrap(self, data_key: bytes, context: Mapping[str, str]) -> bytes:
        answer = await self._call("encrypt", Plaintext=data_key, EncryptionContext=dict(context))
        return bytes(answer["CiphertextBlob"])

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        answer = await self._call("decrypt", CiphertextBlob=wrapped, EncryptionContext=dict(context))
        return bytes(answer["Plaintext"])

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        call = getattr(self._client, operation)
        try:
            answer: dict[str, Any] = await asyncio.to_thread(call, KeyId=self._arn, **arguments)
        except ClientError as error:
            code = error.response["Error"].get("Code", "an unknown error")
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            fault = KeyUnreachable if code in _PASSING or status >= 500 else SealingError
            raise fault(
                f"KMS refuses to {operation} with {self._arn}: {code}",
                remedy="see that the key is enabled, and that this role may kms:Encrypt and kms:Decrypt with it",
            ) from error
        except BotoCoreError as error:
            raise KeyUnreachable(
                f"KMS can't be asked to {operation} with {self._arn}: {error}", remedy="see region, network and role"
            ) from error
        return answer


def kms_key(arn: str, endpoint: str | None = None) -> KmsKey:
    """With the credentials that boto3 finds. Raises RequestError: no ARN, or boto3 is not installed."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise RequestError("KMS needs boto3", remedy="pip install 'jfe-cni[aws]'") from error

    parts = arn.split(":")
    region = parts[3] if len(parts) > 3 else None
    config = Config(
        connect_timeout=_CONNECT_TIMEOUT,
        read_timeout=_READ_TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
    )
    return KmsKey(boto3.client("kms", region_name=region, endpoint_url=endpoint, config=config), arn)


# Seconds, and tries. boto3's own are a minute each: an attempt that was counted would be answered to nobody.
_CONNECT_TIMEOUT = 2
_READ_TIMEOUT = 5
_ATTEMPTS = 3
