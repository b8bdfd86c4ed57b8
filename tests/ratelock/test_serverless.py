"""The function of Lambda: what is packaged, who may do what, and the demonstration of 2016, as Lambda calls it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.serverless import events
from jfe_cni.ratelock.serverless.handler import Function
from jfe_cni.ratelock.serverless.package import MOST_UNPACKED, runtime, write
from jfe_cni.ratelock.serverless.template import HANDLER, template

ROOT = Path(__file__).parents[2]
TABLE = {"Fn::GetAtt": ["Table", "Arn"]}
FUNCTION = {"Fn::GetAtt": ["Function", "Arn"]}


def program(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jfe_cni.ratelock.cli.main", *words]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, check=True, capture_output=True, text=True
    )


def event(method: str, path: str, token: str = "", body: object = None, **more: Any) -> dict[str, Any]:
    """As a function URL sends it."""
    headers = {
        "host": "id.lambda-url.eu-central-1.on.aws",
        "content-type": "application/json",
        "x-forwarded-port": "443",
    }
    if token:
        headers["authorization"] = f"Bearer {token}"
    http = {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test"}
    made: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {"http": http, "stage": "$default", "requestId": "id"},
        "isBase64Encoded": False,
    }
    if body is not None:
        made["body"] = json.dumps(body)
    return {**made, **more}


@pytest.fixture
def function(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Function]:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    made = Function(os.environ)
    yield made
    made.close()


def test_the_demonstration_of_2016(function: Function, settings: dict[str, str]) -> None:
    demonstrate(function, program("token", "first", **settings).stdout.strip())


def demonstrate(function: Function, owner: str) -> None:
    """`owner`: a token."""

    def ask(*asked: Any) -> tuple[int, Any, dict[str, str]]:
        answered = function(event(*asked), None)
        assert not answered["isBase64Encoded"]
        return answered["statusCode"], json.loads(answered["body"] or "null"), answered["headers"]

    grant = {"identity": "till", "role": "caller", "operations": ["check"], "secrets": ["*"], "expires_in": 3600}
    status, made, _ = ask("POST", "/v1/tokens", owner, grant)
    assert status in {200, 201}, made
    caller = made["token"]
    status, _, _ = ask("PUT", "/v1/secrets/alice", owner, {"kind": "password", "password": "correct horse"})
    assert status in {200, 201, 204}
    check = ("POST", "/v1/secrets/alice/check", caller, {"password": "correct horse"})
    assert [ask(*check)[:2] for _ in range(3)] == [(200, {"valid": True})] * 3
    status, problem, headers = ask(*check)
    assert status == 429
    assert 0 < problem["retry_after"] <= 10
    assert 0 < int(headers["retry-after"]) <= 10
    assert ask("POST", "/v1/secrets/alice/check", "", {"password": "correct horse"})[0] == 401
    assert ask("GET", "/v1/secrets", caller)[0] == 403


def test_the_zip_alone_is_enough(tmp_path: Path, settings: dict[str, str]) -> None:
    """Unpacked and called by a Python that knows of nothing else."""
    program("lambda", "package", "--output", str(tmp_path))
    with zipfile.ZipFile(tmp_path / "ratelock.zip") as packed:
        assert sum(each.file_size for each in packed.infolist()) < MOST_UNPACKED
        names = packed.namelist()
        packed.extractall(tmp_path / "unpacked")
    assert "jfe_cni/ratelock/serverless/handler.py" in names
    assert not [name for name in names if name.startswith(("jfe_cni/agent", "tests", "moto", "..", "/"))]
    module, _, called = HANDLER.rpartition(".")
    text = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'unpacked')!r})\n"
        f"import json; from {module} import {called}\n"
        f"print(json.dumps({called}({event('GET', '/readyz')!r}, None)))\n"
    )
    kept = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    command = [sys.executable, "-I", "-S", "-c", text]
    done = subprocess.run(command, env={**kept, **settings}, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answered = json.loads(done.stdout)
    assert (answered["statusCode"], json.loads(answered["body"])) == (200, {"status": "ready"})


def test_the_same_files_make_the_same_zip(tmp_path: Path) -> None:
    for name in ("one.zip", "other.zip"):
        write(tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()


def test_the_template_is_one_of_cloudformation(tmp_path: Path) -> None:
    path = tmp_path / "template.json"
    path.write_text(json.dumps(template(*runtime())))
    done = subprocess.run(
        ["cfn-lint", "--include-checks", "I", "--", path], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")
    broken = template(*runtime())
    broken["Resources"]["Function"]["Properties"]["Role"] = {"Ref": "Nobody"}
    path.write_text(json.dumps(broken))
    done = subprocess.run(["cfn-lint", "--", path], check=False, capture_output=True, text=True)
    assert done.returncode != 0


def test_the_function_may_use_its_table_and_its_callers_may_invoke_it_and_nothing_else() -> None:
    resources = template("python3.11", "x86_64")["Resources"]
    (own,) = resources["Role"]["Properties"]["Policies"]
    assert own["PolicyDocument"]["Statement"] == [
        {
            "Effect": "Allow",
            "Action": [
                "dynamodb:BatchGetItem",
                "dynamodb:BatchWriteItem",
                "dynamodb:DeleteItem",
                "dynamodb:GetItem",
                "dynamodb:PutItem",
                "dynamodb:Query",
            ],
            "Resource": TABLE,
        }
    ]
    assert "ManagedPolicyArns" not in resources["Role"]["Properties"]
    assert resources["Role"]["Properties"]["AssumeRolePolicyDocument"]["Statement"] == [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ]
    assert resources["Callers"]["Properties"]["PolicyDocument"]["Statement"] == [
        {"Effect": "Allow", "Action": ["lambda:InvokeFunction"], "Resource": FUNCTION}
    ]
    kinds = sorted(each["Type"] for each in resources.values())
    assert kinds == ["AWS::DynamoDB::Table", "AWS::IAM::ManagedPolicy", "AWS::IAM::Role", "AWS::Lambda::Function"]


def test_an_event_is_a_request_and_an_answer_is_what_lambda_takes() -> None:
    asked = event(
        "POST",
        "/v1/secrets/a%2Fb/check",
        rawQueryString="first=7",
        isBase64Encoded=True,
    ) | {"body": base64.b64encode(b"\x00\xff").decode()}
    scope, body = events.request(asked)
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (
        "/v1/secrets/a/b/check",
        b"/v1/secrets/a%2Fb/check",
        b"first=7",
    )
    assert body == b"\x00\xff"
    assert (b"content-length", b"2") in scope["headers"]
    assert "extensions" not in scope
    assert events.answer(200, [(b"Vary", b"a"), (b"vary", b"b")], b"{}") == {
        "statusCode": 200,
        "headers": {"vary": "a, b"},
        "body": "{}",
        "isBase64Encoded": False,
    }


@pytest.mark.parametrize(
    "made",
    [
        {},
        {"Records": []},
        {"version": "1.0"},
        event("GET", "/", version="1.0"),
        event("GET", "/", isBase64Encoded=True) | {"body": "%%%"},
        event("GET", "/ü"),
        event("GET", "/%ff"),
        event("GET", "/", headers={"a": 7}),
        event("GET", "/", headers={"a": "\U0001f600"}),
        event("GET", "/", requestContext=None),
    ],
)
def test_what_is_no_request_is_refused(made: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="the event is no request"):
        events.request(made)


def test_a_body_that_is_longer_than_may_be_is_refused_whatever_its_header_says(function: Function) -> None:
    asked = event("POST", "/v1/secrets/alice/check", "rl_" + "a" * 43, {"password": "a" * 100_000})
    asked["headers"]["content-length"] = "5"
    assert function(asked, None)["statusCode"] == 413
