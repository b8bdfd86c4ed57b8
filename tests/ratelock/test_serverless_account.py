"""The function in an account: Lambda takes it as the template describes it, and its role is enough and no more."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from jfe_cni.ratelock.serverless.handler import Function
from jfe_cni.ratelock.serverless.package import runtime, write
from jfe_cni.ratelock.serverless.template import HANDLER, TABLE_ACTIONS, function_policy, template
from jfe_cni.ratelock.stores.dynamodb.items import HEAD, attributes
from tests.ratelock.cloud import REGION, Cloud
from tests.ratelock.test_serverless import demonstrate, program

RESOURCES = template(*runtime())["Resources"]
TRUST = json.dumps(RESOURCES["Role"]["Properties"]["AssumeRolePolicyDocument"])

Client = Callable[[str], Any]


@pytest.fixture
def client(aws: Cloud) -> Client:
    return lambda service: boto3.client(service, region_name=REGION, endpoint_url=aws.endpoint)


def test_lambda_takes_the_zip_and_what_the_template_says(client: Client, tmp_path: Path) -> None:
    write(tmp_path / "ratelock.zip")
    packed = (tmp_path / "ratelock.zip").read_bytes()
    role = client("iam").create_role(RoleName="ratelock", AssumeRolePolicyDocument=TRUST)["Role"]
    properties = RESOURCES["Function"]["Properties"]
    said = {name: properties[name] for name in properties.keys() - {"Code", "Role", "Environment"}}
    made = client("lambda").create_function(FunctionName="ratelock", Role=role["Arn"], Code={"ZipFile": packed}, **said)
    assert (made["Handler"], made["Runtime"]) == (HANDLER, runtime()[0])
    assert made["CodeSha256"] == base64.b64encode(hashlib.sha256(packed).digest()).decode()


def test_what_the_role_may_is_enough_and_no_more(
    aws: Cloud, client: Client, dynamodb_url: str, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moto's IAM knows no resources, and has a name for transactions, which IAM has not: it goes by what they do."""
    settings = {**settings, "RATELOCK_STORE": dynamodb_url.replace("&create=true", "")}
    properties = RESOURCES["Table"]["Properties"]
    client("dynamodb").create_table(
        TableName="ratelock",
        **{name: properties[name] for name in ("AttributeDefinitions", "KeySchema", "BillingMode")},
    )
    owner = program("token", "first", **settings).stdout.strip()
    policy = function_policy("*")
    policy["Statement"][0]["Action"] = [*TABLE_ACTIONS, "dynamodb:TransactWriteItems"]
    iam = client("iam")
    role = iam.create_role(RoleName="ratelock", AssumeRolePolicyDocument=TRUST)["Role"]
    iam.put_role_policy(RoleName="ratelock", PolicyName="table", PolicyDocument=json.dumps(policy))
    assumed = client("sts").assume_role(RoleArn=role["Arn"], RoleSessionName="function")["Credentials"]
    credentials = {
        "AWS_ACCESS_KEY_ID": assumed["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": assumed["SecretAccessKey"],
        "AWS_SESSION_TOKEN": assumed["SessionToken"],
    }
    for name, value in {**settings, **credentials}.items():
        monkeypatch.setenv(name, value)
    # It has found others' credentials, and keeps them.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    aws.authenticate_from_now_on()
    try:
        function = Function(os.environ)
        demonstrate(function, owner)
        function.close()
        table = client("dynamodb")
        assert "Item" in table.get_item(TableName="ratelock", Key=attributes(HEAD))
        others: list[Callable[[], object]] = [
            lambda: table.delete_table(TableName="ratelock"),
            lambda: table.scan(TableName="ratelock"),
            lambda: client("iam").list_users(),
        ]
        for refused in others:
            with pytest.raises(ClientError, match="AccessDenied"):
                refused()
    finally:
        aws.authenticate_nobody()
