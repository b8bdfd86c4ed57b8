"""IAM users, who may do nothing but log in, and their log-in, by boto3. Every call blocks: it is made in threads.

A user without a policy may call STS's GetCallerIdentity, which none can forbid (STS API reference).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jfe_cni.errors import HostError, RequestError, StoreError

# Apart from the account's other users.
_PATH = "/ratelock/"
_WRONG = frozenset({"SignatureDoesNotMatch", "InvalidClientTokenId"})
_GONE = frozenset({"NoSuchEntity", "NoSuchEntityException"})
_FULL = frozenset({"LimitExceeded", "LimitExceededException"})

# Seconds, and tries, as for KMS.
_CONNECT_TIMEOUT = 2
_READ_TIMEOUT = 5
_ATTEMPTS = 3
# A key that was just made is not known everywhere at once (IAM user guide, "Changes that I make are not always
# immediately visible"): seconds that it is waited for, and between two looks.
# Less than a request to the API has (`api/boundary.py`), the calls before and after it included.
_PATIENCE = 10.0
_PAUSE = 0.5


@dataclass(frozen=True)
class Quota:
    """Of users in the account: AWS gives 5,000, and no more (IAM user guide, "IAM and AWS STS quotas")."""

    users: int
    most: int

    @property
    def is_near(self) -> bool:
        return self.users * 10 >= self.most * 9

    @property
    def is_spent(self) -> bool:
        return self.users >= self.most

    def __str__(self) -> str:
        return f"the cloud's account has {self.users} of the {self.most} users that it may have"


class Accounts:
    def __init__(self, session: Any, config: Any, region: str, endpoint: str | None) -> None:
        """Made by `accounts`."""
        self._session = session
        self._config = config
        self._region = region
        self._endpoint = endpoint
        self._iam = session.client("iam", region_name=region, endpoint_url=endpoint, config=config)

    def quota(self) -> Quota:
        """Raises StoreError."""
        counted = self._call(self._iam.get_account_summary)["SummaryMap"]
        return Quota(counted["Users"], counted["UsersQuota"])

    def create(self, user: str) -> tuple[str, str]:
        """Its access key's id and secret. Raises RequestError: there can be no more users; StoreError."""
        quota = self.quota()
        if quota.is_spent:
            raise _full(str(quota))
        self._call(self._iam.create_user, UserName=user, Path=_PATH)
        key = self._call(self._iam.create_access_key, UserName=user)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def delete(self, user: str) -> None:
        """What is gone already may be. Raises StoreError."""
        # Asked for, not known: of a key whose making was answered to nobody, nobody knows the id.
        keys = self._call(self._iam.list_access_keys, may_be_gone=True, UserName=user).get("AccessKeyMetadata", [])
        for key in keys:
            named = {"UserName": user, "AccessKeyId": key["AccessKeyId"]}
            self._call(self._iam.delete_access_key, may_be_gone=True, **named)
        self._call(self._iam.delete_user, may_be_gone=True, UserName=user)

    def log_in(self, access_key_id: str, secret_key: str) -> bool:
        """Raises StoreError: the cloud is away, or too busy."""
        from botocore.exceptions import ClientError

        client = self._session.client(
            "sts",
            region_name=self._region,
            endpoint_url=self._endpoint,
            config=self._config,
            aws_access_key_id=access_key_id,
            aws_secret_access_key=secret_key,
        )
        try:
            self._call(client.get_caller_identity)
        except StoreError as error:
            cause = error.__cause__
            if isinstance(cause, ClientError) and cause.response["Error"].get("Code") in _WRONG:
                return False
            raise
        finally:
            client.close()
        return True

    def wait_until_known(self, access_key_id: str, secret_key: str) -> None:
        """Raises StoreError."""
        until = time.monotonic() + _PATIENCE
        while not self.log_in(access_key_id, secret_key):
            if time.monotonic() >= until:
                raise StoreError("the cloud does not know the key that it has made", remedy="try again in a minute")
            time.sleep(_PAUSE)

    def _call(self, call: Callable[..., Any], *, may_be_gone: bool = False, **arguments: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = call(**arguments)
        except ClientError as error:
            code = error.response["Error"].get("Code", "an unknown error")
            if may_be_gone and code in _GONE:
                return {}
            if code in _FULL:
                raise _full(f"the cloud refuses {error.operation_name}: {code}") from error
            raise StoreError(
                f"the cloud refuses {error.operation_name}: {code}",
                remedy="see that this role may create and delete users and their keys, and read the account's summary",
            ) from error
        except BotoCoreError as error:
            raise StoreError(f"the cloud can't be asked: {error}", remedy="see region, network and role") from error
        return answer


def accounts(region: str, endpoint: str | None = None) -> Accounts:
    """With the credentials that boto3 finds. Raises HostError: it is not installed."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise HostError("WallIAM needs boto3", remedy="pip install 'jfe-cni[aws]'") from error

    config = Config(
        connect_timeout=_CONNECT_TIMEOUT,
        read_timeout=_READ_TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
    )
    return Accounts(boto3.Session(), config, region, endpoint)


def _full(what: str) -> RequestError:
    return RequestError(what, remedy="remove users, or keep further passwords in the store")
