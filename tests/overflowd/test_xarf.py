"""Notices for abuse desks: valid by the official schemas of XARF v4, and accusing nobody of what it has not done."""

from __future__ import annotations

import base64
import dataclasses
import importlib.resources
import json
from typing import Any

import jsonschema
import pytest
import xarf as official
from hypothesis import given
from referencing import Registry, Resource

from jfe_cni.overflowd.notices import keys
from jfe_cni.overflowd.notices.notice import Class, Notice, Reporter
from jfe_cni.overflowd.notices.signing import sign, verified
from jfe_cni.overflowd.notices.xarf import VERSION, Untold, report
from tests.overflowd.test_notices import NOTICE, notices

KEY = keys.new_key()
SCHEMAS = importlib.resources.files("xarf") / "schemas"


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SCHEMAS / name).read_text())
    return found


DDOS = schema("types/connection-ddos.json")
REGISTRY: Registry[Any] = Registry().with_resources(
    [(each["$id"], Resource.from_contents(each)) for each in (DDOS, schema("xarf-core.json"))]
)
VALIDATOR = jsonschema.Draft202012Validator(
    DDOS, registry=REGISTRY, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)


def reported(notice: Notice) -> dict[str, Any]:
    found = report(notice, sign(notice, KEY).encode())
    assert isinstance(found, dict)
    return found


def test_a_report_is_of_the_official_schema_and_of_its_version() -> None:
    said = reported(NOTICE)
    VALIDATOR.validate(said)
    read = official.parse(said)
    assert read.errors == []
    assert said["xarf_version"] == VERSION == official.SPEC_VERSION
    assert said["source_identifier"] == "198.51.100.1"
    assert said["destination_ip"] == "203.0.113.9"
    assert said["total_packets"] == 3_000, "one packet in a thousand was looked at"
    assert "41 sources in 60 s" in said["description"]


def test_the_schema_refuses_what_is_none() -> None:
    said = reported(NOTICE)
    changes: list[dict[str, Any]] = [
        {"protocol": "gre"},
        {"reporter": {**said["reporter"], "contact": "nobody"}},
        {"evidence": [{}]},
    ]
    for changed in changes:
        with pytest.raises(jsonschema.ValidationError):
            VALIDATOR.validate(said | changed)


@given(notices())
def test_whatever_a_notice_says_there_is_a_report_of_the_schema_or_a_reason_for_none(notice: Notice) -> None:
    notice = dataclasses.replace(notice, reporter=dataclasses.replace(notice.reporter, contact=NOTICE.reporter.contact))
    found = report(notice, b"e30.e30.AA")
    if isinstance(found, Untold):
        assert found in {Untold.NO_ABUSE, Untold.UNNAMED_PROTOCOL, Untold.NO_PORT}
    else:
        VALIDATOR.validate(json.loads(json.dumps(found)))


def test_the_evidence_is_the_signed_notice_itself() -> None:
    [evidence] = reported(NOTICE)["evidence"]
    assert verified(base64.b64decode(evidence["payload"]), {KEY.thumbprint(): KEY}) == NOTICE


def test_the_same_notice_is_the_same_report_and_another_another() -> None:
    other = dataclasses.replace(NOTICE, nonce="fedcba9876543210")
    assert reported(NOTICE)["report_id"] == reported(NOTICE)["report_id"] != reported(other)["report_id"]


def test_who_is_forged_is_not_said_to_have_sent() -> None:
    said = reported(dataclasses.replace(NOTICE, classified=Class.SPOOFED_SOURCE))
    VALIDATOR.validate(said)
    assert said["confidence"] == 0
    assert "forged" in said["description"]


@pytest.mark.parametrize(
    ("notice", "why"),
    [
        (dataclasses.replace(NOTICE, classified=Class.TRAFFIC), Untold.NO_ABUSE),
        (dataclasses.replace(NOTICE, flow=dataclasses.replace(NOTICE.flow, protocol=47)), Untold.UNNAMED_PROTOCOL),
        (dataclasses.replace(NOTICE, flow=dataclasses.replace(NOTICE.flow, protocol=1)), Untold.NO_PORT),
        (dataclasses.replace(NOTICE, flow=dataclasses.replace(NOTICE.flow, source_port=0)), Untold.NO_PORT),
        (dataclasses.replace(NOTICE, reporter=Reporter("+1 555 0100", "", 0, "")), Untold.NO_CONTACT),
    ],
)
def test_what_is_no_report_has_a_reason(notice: Notice, why: Untold) -> None:
    assert report(notice, b"") is why
