"""Tests of the AWS stack: a linter finds no mistake, and the policies allow what they should."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_stack import TEMPLATE, allows, autoscaler_statements, resources, statements
from cfnlint.api import lint_file
from moto import mock_aws
from seaweed import S3Server, seaweed

from pcworker.errors import StoreError
from pcworker.store.keys import SweepKeys
from pcworker.store.s3.s3 import S3Store

ARN = "arn:aws:s3:::results"
KEYS = SweepKeys("mnist")
TLS = {"aws:SecureTransport": "true"}
PLAIN = {**TLS, "s3:ObjectCreationOperation": "true"}
CONDITIONAL = {**PLAIN, "s3:if-none-match": "*"}
PART = {**TLS, "s3:ObjectCreationOperation": "false"}


def lint(template: Path) -> set[tuple[str, int]]:
    """The rules that are broken, by cfn-lint, each with the number of the line that breaks it."""
    return {(match.rule.id, match.linenumber) for match in lint_file(template)}


def test_the_linter_finds_nothing() -> None:
    assert lint(TEMPLATE) == set()


PLANTED = [
    ("s3:GetObject", "s3:GetObjekt", "W3037"),
    ('"Null":', '"Nul":', "E3512"),
    ("AbortIncompleteMultipartUpload:", "AbortIncompleteUpload:", "E3002"),
    ("GetAtt WorkerRole.Arn", "GetAtt WorkersRole.Arn", "E1010"),
    ("AWS::IAM::InstanceProfile", "AWS::IAM::InstanceProfil", "E3006"),
    ("${Prefix}/probe/", "${Prefixe}/probe/", "E1019"),
    ("Effect: Deny", "Effect: Refuse", "E3512"),
    ('Value: !Sub "s3://${Bucket}/${Prefix}"', "Value: !Ref Results", "W1001"),
]


def test_every_planted_mistake_is_found_and_nothing_else(tmp_path: Path) -> None:
    text, expected = TEMPLATE.read_text(), set()
    for was, planted, rule in PLANTED:
        before, found, after = text.partition(was)
        assert found, was
        expected.add((rule, before.count("\n") + 1))
        text = before + planted + after
    (tmp_path / "stack.yaml").write_text(text)
    assert lint(tmp_path / "stack.yaml") == expected


def may(action: str, key: str, context: dict[str, str]) -> bool:
    """True if the policies of a worker's role and of the bucket together allow the action."""
    policy = statements("StorePolicy") + statements("ResultsPolicy")
    return allows(policy, f"s3:{action}", f"{ARN}/{key}", context)


def at(key: str) -> str:
    return f"zilsweep/{key}"


@pytest.mark.parametrize("key", [KEYS.commit("s1"), KEYS.plan])
def test_commits_and_plans_are_written_if_absent_or_not_at_all(key: str) -> None:
    assert may("PutObject", at(key), CONDITIONAL)
    assert not may("PutObject", at(key), PLAIN)


def test_a_commit_in_parts_is_refused_by_the_request_that_completes_it() -> None:
    """CompleteMultipartUpload needs s3:PutObject too, and it creates the object. Parts do not."""
    assert may("PutObject", at(KEYS.commit("s1")), PART)
    assert not may("PutObject", at(KEYS.commit("s1")), PLAIN)


def test_nobody_overwrites_a_commit_not_even_an_administrator() -> None:
    everything = [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]
    policy = everything + statements("ResultsPolicy")
    commit = f"{ARN}/{at(KEYS.commit('s1'))}"
    assert not allows(policy, "s3:PutObject", commit, PLAIN)
    assert allows(policy, "s3:PutObject", commit, CONDITIONAL)
    assert allows(policy, "s3:DeleteObject", commit, TLS)  # else no sweep could be deleted
    assert all(statement["Principal"] == "*" for statement in statements("ResultsPolicy"))


@pytest.mark.parametrize(
    "key",
    [
        KEYS.data("s1", "a1", "weights"),
        KEYS.attempt("s1", "a1"),
        KEYS.checkpoint("s1", "a1", 3),
        KEYS.failure("s1", "a1"),
        KEYS.driver("d1"),
        KEYS.table("trials"),
        KEYS.report("figure3.png"),
    ],
)
def test_all_else_is_written_freely(key: str) -> None:
    assert may("PutObject", at(key), PLAIN)
    assert may("GetObject", at(key), TLS)


def test_what_a_job_deletes_it_may_and_no_result() -> None:
    assert may("DeleteObject", at(KEYS.checkpoint("s1", "a1", 3)), TLS)
    assert may("DeleteObject", at("probe/0123"), TLS)
    for key in (
        KEYS.commit("s1"),
        KEYS.plan,
        KEYS.data("s1", "a1", "trials"),
        KEYS.table("trials"),
    ):
        assert not may("DeleteObject", at(key), TLS)


@pytest.mark.parametrize("key", ["other/x", "zilsweeps/x", "x", "other/zilsweep/x"])
def test_another_prefix_is_neither_read_nor_written(key: str) -> None:
    for action in ("GetObject", "PutObject", "DeleteObject"):
        assert not may(action, key, CONDITIONAL)


def test_nothing_goes_without_tls() -> None:
    assert not may("GetObject", at(KEYS.plan), {"aws:SecureTransport": "false"})


def test_the_head_ends_nodes_of_its_cluster_only_and_gives_one_role() -> None:
    policy = autoscaler_statements()
    node = "arn:aws:ec2:eu-central-1:123456789012:instance/i-1"
    mine = {"aws:ResourceTag/ray-cluster-name": "zilsweep"}
    assert allows(policy, "ec2:TerminateInstances", node, mine)
    assert not allows(policy, "ec2:TerminateInstances", node, {})
    # Ray's NodeUpdater writes into the tags of a node how far its start has come.
    assert allows(policy, "ec2:CreateTags", node, mine)
    assert not allows(policy, "ec2:CreateTags", node, {})
    assert allows(policy, "ec2:CreateTags", node, {"ec2:CreateAction": "RunInstances"})
    to_ec2 = {"iam:PassedToService": "ec2.amazonaws.com"}
    assert allows(policy, "iam:PassRole", "WorkerRole.Arn", to_ec2)
    assert not allows(policy, "iam:PassRole", "arn:aws:iam::123456789012:role/admin", to_ec2)


def lifecycle() -> list[dict[str, Any]]:
    return resources()["Results"]["Properties"]["LifecycleConfiguration"]["Rules"]


def test_no_lifecycle_rule_can_reach_a_result() -> None:
    expiring = [rule for rule in lifecycle() if "ExpirationInDays" in rule]
    assert [rule["Prefix"] for rule in expiring] == ["zilsweep/probe/"]


def test_old_versions_go_after_a_month_by_the_rules_and_by_no_worker() -> None:
    days = {
        rule.get("Prefix"): rule["NoncurrentVersionExpiration"]["NoncurrentDays"]
        for rule in lifecycle()
        if "NoncurrentVersionExpiration" in rule
    }
    assert days == {None: 30, "zilsweep/probe/": 1}
    for key in (KEYS.data("s1", "a1", "trials"), KEYS.checkpoint("s1", "a1", 3), "probe/0123"):
        assert not may("DeleteObjectVersion", at(key), TLS)
    for action in ("PutBucketVersioning", "PutLifecycleConfiguration", "DeleteBucketPolicy"):
        assert not allows(statements("StorePolicy"), f"s3:{action}", ARN, TLS)


def test_the_bucket_never_outlives_its_denies_and_a_kept_one_is_left_alone() -> None:
    """A stack over a kept bucket makes no bucket. The linter's rule W1001 finds any resource that
    would need the missing one."""
    for name in ("Results", "ResultsPolicy"):
        made = resources()[name]
        assert made["DeletionPolicy"] == "RetainExceptOnCreate"  # a failed start leaves nothing
        assert made["UpdateReplacePolicy"] == "Retain"
    conditional = {name for name, made in resources().items() if "Condition" in made}
    assert conditional == {"Results", "ResultsPolicy"}


def test_data_that_is_overwritten_or_deleted_can_be_had_back() -> None:
    data = at(KEYS.data("s1", "a1", "trials"))
    assert may("PutObject", data, PLAIN)
    versioning = resources()["Results"]["Properties"]["VersioningConfiguration"]
    with mock_aws():
        s3 = boto3.client("s3", "us-east-1")
        s3.create_bucket(Bucket="results")
        s3.put_bucket_versioning(Bucket="results", VersioningConfiguration=versioning)
        committed = s3.put_object(Bucket="results", Key=data, Body=b"committed")["VersionId"]
        s3.put_object(Bucket="results", Key=data, Body=b"overwritten")
        s3.delete_object(Bucket="results", Key=data)
        old = s3.get_object(Bucket="results", Key=data, VersionId=committed)
        assert old["Body"].read() == b"committed"


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real server whose bucket lets a worker do what its role allows, and nothing else.

    The bucket's own policy cannot be tested here: SeaweedFS does not know the condition key
    s3:if-none-match, and this server has no TLS. The tests above test it.
    """
    folder = tmp_path_factory.mktemp("server")
    keys = {"accessKey": "worker-key", "secretKey": "worker-secret"}
    admin = {"accessKey": "admin-key", "secretKey": "admin-secret"}
    identities = [
        {"name": "admin", "credentials": [admin], "actions": ["Admin", "Read", "Write", "List"]},
        {"name": "worker", "credentials": [keys], "actions": []},
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    role = [{**statement, "Principal": "*"} for statement in statements("StorePolicy")]
    with seaweed(folder) as running:
        server = running.server
        policy = json.dumps({"Version": "2012-10-17", "Statement": role})
        server.client().put_bucket_policy(Bucket=server.bucket, Policy=policy)
        yield dataclasses.replace(
            server, access_key=keys["accessKey"], secret_key=keys["secretKey"]
        )


@pytest.fixture
def environment(worker: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in worker.environment().items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("environment")
def test_on_a_real_server_the_role_is_enough_for_all_that_the_store_does() -> None:
    store, keys = S3Store("s3://results/zilsweep"), SweepKeys("enough")
    store.check()
    assert store.get(keys.commit("s1")) is None
    for key in (keys.data("s1", "a1", "trials"), keys.checkpoint("s1", "a1", 1)):
        store.put(key, b"data")
    assert store.put_if_absent(keys.commit("s1"), b"first")
    assert not store.put_if_absent(keys.commit("s1"), b"second")
    store.delete(keys.checkpoint("s1", "a1", 1))
    assert store.list(keys.shards) == [keys.data("s1", "a1", "trials"), keys.commit("s1")]


@pytest.mark.usefixtures("environment")
def test_on_a_real_server_a_worker_deletes_no_commit_and_reaches_no_other_prefix() -> None:
    store, keys = S3Store("s3://results/zilsweep"), SweepKeys("little-else")
    store.put_if_absent(keys.commit("s2"), b"first")
    with pytest.raises(StoreError, match="AccessDenied"):
        store.delete(keys.commit("s2"))
    assert store.get(keys.commit("s2")) == b"first"
    other = S3Store("s3://results/other")
    with pytest.raises(StoreError, match="AccessDenied"):
        other.put(keys.plan, b"x")
    with pytest.raises(StoreError, match="AccessDenied"):
        other.get(keys.plan)
