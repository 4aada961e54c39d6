"""What `make deploy` and `make destroy` ask the CDK's CLI for, and of whom."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import botocore.session
import pytest
from typer.testing import CliRunner

from recourse import tools
from recourse.cdk import deploy
from recourse.cdk.deploy import App, DeployError, empty, main
from recourse.cdk.prices import DATE
from recourse.cli import doctor
from recourse.cli import main as cli
from recourse.doctor import machine
from recourse.doctor.finding import Finding
from recourse.project import Project


def assembly(folder: Path, policy: str = "Delete") -> Path:
    """A stack of one bucket, as the CDK writes it."""
    folder.mkdir()
    properties = {
        "templateFile": "One.template.json",
        "stackTemplateAssetObjectUrl": "s3://a/1.json",
    }
    stack = {"type": "aws:cloudformation:stack", "properties": properties}
    (folder / "manifest.json").write_text(json.dumps({"artifacts": {"One": stack}}))
    bucket = {"Type": "AWS::S3::Bucket", "DeletionPolicy": policy}
    (folder / "One.template.json").write_text(json.dumps({"Resources": {"Bucket": bucket}}))
    return folder


class Account:
    """CloudFormation and S3 of an account in which `One` is deployed, with two pages of objects."""

    def __init__(self) -> None:
        self.deleted: list[tuple[str, str]] = []

    def describe_stacks(self, **_: str) -> Any:
        return {"Stacks": [{"StackName": "One"}]}

    def describe_stack_resource(self, **_: str) -> Any:
        detail = {"ResourceStatus": "CREATE_COMPLETE", "PhysicalResourceId": "bucket"}
        return {"StackResourceDetail": detail}

    def get_paginator(self, operation: str) -> Account:
        assert operation == "list_object_versions"
        return self

    def paginate(self, **asked: str) -> Any:
        assert asked == {"Bucket": "bucket"}
        return [
            {"Versions": [{"Key": "a", "VersionId": "1"}, {"Key": "a", "VersionId": "2"}]},
            {"DeleteMarkers": [{"Key": "b", "VersionId": "3"}]},
            {},
        ]

    def delete_objects(self, *, Bucket: str, Delete: Any) -> Any:
        assert Bucket == "bucket"
        self.deleted += [(one["Key"], one["VersionId"]) for one in Delete["Objects"]]
        return {}


class Asked:
    """What was asked of the CDK's CLI, and in which region; of whom AWS was asked."""

    def __init__(self) -> None:
        self.lines: list[list[str]] = []
        self.regions: set[str] = set()
        self.account = Account()
        self.out = Path()

    def run(self, line: Any, *, env: Any, **_: Any) -> None:
        _node, _cli, *said = map(str, line)
        self.lines.append(said)
        self.regions.add(env["AWS_REGION"])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Asked:
    made = Asked()

    class Session:
        def __init__(self, profile: str | None) -> None:
            assert profile in (None, "mine")

        def get_config_variable(self, name: str) -> str:
            return "ap-south-1" if name == "region" else ""

        def create_client(self, _: str, region_name: str, **_options: Any) -> Account:
            made.regions.add(region_name)
            return made.account

    monkeypatch.setattr(deploy, "subprocess", SimpleNamespace(run=made.run))
    assembly(tmp_path / "cdk.out")
    monkeypatch.setattr(tools, "install", lambda _: None)
    monkeypatch.setattr(Project, "find", lambda: SimpleNamespace(root=tmp_path))
    made.out = tmp_path / "cdk.out"
    monkeypatch.setattr(botocore.session, "Session", Session)
    monkeypatch.delenv("AWS_REGION", raising=False)
    return made


def test_a_deploy_takes_the_context_to_the_synthesis_and_the_rest_to_the_deploy(
    asked: Asked,
) -> None:
    line = "deploy --context stage=dev -c index_step=1 --require-approval never --profile mine"
    main(line.split())
    out = asked.out
    assert [" ".join(one) for one in asked.lines] == [
        f"synth --quiet --output {out} --context stage=dev --context index_step=1 --profile mine",
        f"deploy --all --app {out} --require-approval never --profile mine",
    ]


class Served:
    """A stage with a console, whose URL is an output of `One` once that is deployed."""

    URL = "https://d1.cloudfront.net"

    def __init__(self, asked: Asked, patch: pytest.MonkeyPatch, *, deployed: bool) -> None:
        self._asked, self._deployed = asked, deployed
        patch.setattr(deploy, "subprocess", SimpleNamespace(run=self._run))
        patch.setattr(asked.account, "describe_stacks", self._describe)

    def _run(self, line: Any, **options: Any) -> None:
        self._asked.run(line, **options)
        if line[2] == "synth":
            known = f"console_url={self.URL}" in line
            value = self.URL if known else {"Fn::GetAtt": ["Distribution", "DomainName"]}
            template = {"Resources": {}, "Outputs": {"ConsoleUrl": {"Value": value}}}
            (self._asked.out / "One.template.json").write_text(json.dumps(template))
        else:
            self._deployed = True

    def _describe(self, **_: str) -> Any:
        told = [{"OutputKey": "ConsoleUrl", "OutputValue": self.URL}]
        return {"Stacks": [{"StackName": "One", "Outputs": told if self._deployed else []}]}

    def asked_for(self) -> list[str]:
        """The commands of the CDK's CLI, and with a plus those that the URL was given to."""
        said = f"console_url={self.URL}"
        return [line[0] + "+" * (said in line) for line in self._asked.lines]


def test_a_first_deploy_is_followed_by_one_that_knows_where_the_console_is(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Served(asked, monkeypatch, deployed=False)
    main(["deploy", "--context", "stage=dev"])
    assert stage.asked_for() == ["synth", "deploy", "synth+", "deploy"]
    assert "stage=dev" in asked.lines[2], "the other context is as before"
    assert "at https://d1.cloudfront.net: deploying once more" in capsys.readouterr().out


def test_a_later_deploy_keeps_the_console_where_it_is(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the URL it would take the client away by which people sign in."""
    stage = Served(asked, monkeypatch, deployed=True)
    main(["deploy"])
    assert stage.asked_for() == ["synth", "synth+", "deploy"]


def test_a_deploy_that_is_told_where_the_console_is_is_one(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Served(asked, monkeypatch, deployed=False)
    main(["deploy", "--context", f"console_url={stage.URL}"])
    assert stage.asked_for() == ["synth+", "deploy"]


def test_a_deploy_says_first_what_the_stage_costs_idle(
    asked: Asked, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = {"Type": "AWS::KMS::Key"}
    mapping = {"Type": "AWS::Lambda::EventSourceMapping", "Properties": {"EventSourceArn": "q"}}
    template = {"Resources": {"Key": key, "Tally": mapping, "Notifier": mapping}}
    (asked.out / "One.template.json").write_text(json.dumps(template))
    said: list[str] = []

    def run(line: Any, **options: Any) -> None:
        said.append(capsys.readouterr().out)
        asked.run(line, **options)

    monkeypatch.setattr(deploy, "subprocess", SimpleNamespace(run=run))
    main(["deploy"])
    assert [one[0] for one in asked.lines] == ["synth", "deploy"]
    assert said == [
        "",
        "idle, this stage costs some $1.53 a month: KMS keys (1) $1.00, polled queues (2) $0.53 "
        f"(list prices of us-east-1, {DATE})\n",
    ]


def test_the_cli_and_we_look_at_the_same_region(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["deploy"])
    assert asked.regions == {"ap-south-1"}
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    asked.regions.clear()
    main(["deploy"])
    assert asked.regions == {"eu-west-1"}


def test_a_destroy_empties_every_version_of_every_bucket_first(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda _: "y")
    main(["destroy"])
    assert asked.account.deleted == [("a", "1"), ("a", "2"), ("b", "3")]
    assert [one[0] for one in asked.lines] == ["synth", "destroy"]
    assert "--force" in asked.lines[-1]


def test_nothing_is_destroyed_that_was_not_agreed_to(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda _: "")
    with pytest.raises(DeployError, match="nothing was destroyed"):
        main(["destroy"])
    assert (asked.account.deleted, [one[0] for one in asked.lines]) == ([], ["synth"])


def test_a_stage_that_keeps_its_data_is_not_destroyed(tmp_path: Path) -> None:
    kept = assembly(tmp_path / "kept", "RetainExceptOnCreate")
    account = Account()
    with pytest.raises(DeployError, match="One: this stage keeps its data"):
        empty(kept, cloudformation=account, s3=account, say=print)
    assert account.deleted == []


def test_what_s3_does_not_delete_stops_the_destroy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Account()
    refused = {"Errors": [{"Message": "Access Denied"}]}
    monkeypatch.setattr(account, "delete_objects", lambda **_: refused)
    with pytest.raises(DeployError, match="bucket cannot be emptied: Access Denied"):
        empty(assembly(tmp_path / "out"), cloudformation=account, s3=account, say=print)


def test_what_the_doctor_stops_is_not_deployed(asked: Asked) -> None:
    def stop(app: App, out: Path) -> None:
        assert (app.region, out) == ("ap-south-1", asked.out)
        raise DeployError("not bootstrapped")

    with pytest.raises(DeployError, match="not bootstrapped"):
        main(["deploy"], stop)
    assert [one[0] for one in asked.lines] == ["synth"], "it was looked at, and no more"


@pytest.mark.parametrize("more", [[], ["--skip-doctor"]])
def test_a_deploy_begins_with_the_doctor_unless_it_is_skipped(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    found = Finding("bootstrap", "error", "not bootstrapped", "it fails", "cdk bootstrap")
    monkeypatch.setattr(doctor, "of_account", lambda app, out: [found])
    monkeypatch.setattr(machine, "findings", lambda root: [])
    answer = CliRunner().invoke(cli.app, ["deploy", "-c", "stage=dev", *more])
    commands = [one[0] for one in asked.lines]
    if more:
        assert (answer.exit_code, commands) == (0, ["synth", "deploy"])
        assert "--skip-doctor" not in asked.lines[-1]
    else:
        assert (answer.exit_code, commands) == (1, ["synth"])
        assert "cdk bootstrap" in answer.output and "--skip-doctor" in answer.output
