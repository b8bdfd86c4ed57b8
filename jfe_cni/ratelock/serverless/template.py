"""The function, its table, and who may do what, as a template of CloudFormation. Pure.

The function's role may use its table and nothing else: not even write logs to CloudWatch. Its callers may invoke it and
nothing else.
"""

from __future__ import annotations

from typing import Any

from jfe_cni.ratelock.stores.dynamodb.items import EXPIRES
from jfe_cni.ratelock.stores.dynamodb.table import DEFINITION

HANDLER = "jfe_cni.ratelock.serverless.handler.handler"
# A cold start with boto3, FastAPI and the learning of the time, and one Argon2id; a request may take 30 s.
_TIMEOUT = 40
# MB. Argon2id's 64 MiB, and as much CPU as goes with a whole one (Lambda developer guide, "Configure memory").
_MEMORY = 1769
# TransactWriteItems and BatchWriteItem are allowed by what they do (DynamoDB developer guide, "IAM and transactions").
TABLE_ACTIONS = (
    "dynamodb:BatchGetItem",
    "dynamodb:BatchWriteItem",
    "dynamodb:DeleteItem",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "dynamodb:Query",
)
INVOKE_ACTIONS = ("lambda:InvokeFunction",)


def template(runtime: str, architecture: str) -> dict[str, Any]:
    """`runtime`, `architecture`: of Lambda, those that the zip was made for: `python3.11`, `x86_64`."""
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "ratelock: secrets that can be used, within budgets, and not read",
        "Parameters": {
            "CodeBucket": {"Type": "String", "Description": "The bucket of S3 that has the zip"},
            "CodeKey": {"Type": "String", "Default": "ratelock.zip", "Description": "The zip's key in the bucket"},
            "KeyEncryptionKey": {
                "Type": "String",
                "NoEcho": True,
                "AllowedPattern": "[A-Za-z0-9+/]{43}=",
                "Description": "32 random bytes, in base64, that seal the secrets; kept elsewhere as well",
            },
        },
        "Resources": {
            "Table": _table(),
            "Role": _role(),
            "Function": _function(runtime, architecture),
            "Callers": _callers(),
        },
        "Outputs": {
            "FunctionArn": {"Value": _arn("Function"), "Description": "What callers invoke"},
            "CallersPolicyArn": {"Value": {"Ref": "Callers"}, "Description": "To be attached to callers"},
            "TableName": {"Value": {"Ref": "Table"}, "Description": "For ratelock token first --store dynamodb://…"},
        },
    }


def function_policy(table_arn: Any) -> dict[str, Any]:
    return _policy(TABLE_ACTIONS, table_arn)


def callers_policy(function_arn: Any) -> dict[str, Any]:
    return _policy(INVOKE_ACTIONS, function_arn)


def _policy(actions: tuple[str, ...], resource: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
    return {"Version": "2012-10-17", "Statement": [statement]}


def _table() -> dict[str, Any]:
    return {
        "Type": "AWS::DynamoDB::Table",
        # Whoever deletes the stack has not deleted the counts, and the secrets, with it.
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": {
            **DEFINITION,
            "TimeToLiveSpecification": {"AttributeName": EXPIRES, "Enabled": True},
            "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
            "SSESpecification": {"SSEEnabled": True},
        },
    }


def _role() -> dict[str, Any]:
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [trust]},
            "Policies": [{"PolicyName": "table", "PolicyDocument": function_policy(_arn("Table"))}],
        },
    }


def _function(runtime: str, architecture: str) -> dict[str, Any]:
    store = {"Fn::Sub": "dynamodb://${Table}?region=${AWS::Region}"}
    return {
        "Type": "AWS::Lambda::Function",
        "Properties": {
            "Runtime": runtime,
            "Architectures": [architecture],
            "Handler": HANDLER,
            "Code": {"S3Bucket": {"Ref": "CodeBucket"}, "S3Key": {"Ref": "CodeKey"}},
            "Role": _arn("Role"),
            "Timeout": _TIMEOUT,
            "MemorySize": _MEMORY,
            "Environment": {
                "Variables": {
                    "RATELOCK_STORE": store,
                    "RATELOCK_KEY": "environment:RATELOCK_KEY_ENCRYPTION_KEY",
                    "RATELOCK_KEY_ENCRYPTION_KEY": {"Ref": "KeyEncryptionKey"},
                    "RATELOCK_PASSWORD_THREADS": "1",
                }
            },
        },
    }


def _callers() -> dict[str, Any]:
    return {
        "Type": "AWS::IAM::ManagedPolicy",
        "Properties": {
            "Description": "Invoke ratelock, and nothing else",
            "PolicyDocument": callers_policy(_arn("Function")),
        },
    }


def _arn(resource: str) -> dict[str, Any]:
    return {"Fn::GetAtt": [resource, "Arn"]}
