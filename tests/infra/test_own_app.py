"""The constructs in an app of somebody else's, that of docs/in-your-cdk-app.md, in any layout."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

import pytest

from recourse import cdk
from recourse.errors import DeclarationError
from recourse.functions.users import GROUPS, SCOPES
from recourse.project import Project, ProjectError
from tests import own_app
from tests.infra.assembly import CLI, Assembly, must_hear_first
from tests.infra.conftest import LOCAL
from tests.unit.test_pre_token import spending

if TYPE_CHECKING:
    from aws_cdk import Stack

pytestmark = pytest.mark.xdist_group("infra")

OTHERS = re.compile(r"\b(infra|services|statemachines|lambdas|tests)\b[.:]")
RULES = "@aws-cdk/core:validateAgainstDefaultRules"
NEW_APP = {
    "@aws-cdk/aws-sns-subscriptions:restrictSqsDescryption": True,
    "@aws-cdk/core:defaultCrossStackReferences": "weak",
    RULES: True,
}
"""Flags that `cdk init` sets; with the last, nothing that CloudFormation would refuse is made."""
LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "one stack": ("shop", NEW_APP),
    "a stack each": ('Stack(app, f"Shop-{capability}")', {}),
    "a stack each, of a new app": ('Stack(app, f"Shop-{capability}")', NEW_APP),
    "nested stacks": ("NestedStack(shop, capability)", NEW_APP),
}
IN_EXAMPLES = (
    "aws_cdk",
    *(f"aws_cdk.aws_{one}" for one in ("dynamodb", "lambda", "sns_subscriptions", "apigatewayv2")),
    "recourse",
    "recourse.cdk.rights",
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the page's files, whose package can be imported."""
    folder = tmp_path_factory.mktemp("shop")
    own_app.write(folder)
    sys.path.insert(0, str(folder / "src"))
    yield folder
    sys.path.remove(str(folder / "src"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[name]


@pytest.fixture
def project(shop: Path) -> Project:
    return Project(shop, "shop.sagas:SAGAS", ("src/shop",), shop / "requirements.lock")


@pytest.fixture
def stack() -> Stack:
    """A stack of an app without any context of ours."""
    from aws_cdk import App, Stack

    app = App(context=CLI, analytics_reporting=False, builtin_cloud_formation_validation=False)
    return Stack(app, "Theirs")


def synthesised(
    shop: Path, folder: Path, home: str, flags: dict[str, Any], patch: pytest.MonkeyPatch
) -> Assembly:
    """Run the page's app as the CLI would, with the capabilities where they are wanted."""
    import aws_cdk

    made = partial(
        aws_cdk.App,
        context=CLI | flags,
        outdir=str(folder),
        analytics_reporting=False,
        # Without the flag it would only warn.
        builtin_cloud_formation_validation=RULES in flags,
    )
    source = (shop / "app.py").read_text()
    assert source.count("    return shop\n") == 1
    source = source.replace("    return shop\n", f"    return {home}\n")
    patch.setattr(aws_cdk, "App", made)
    exec(
        compile(source, str(shop / "app.py"), "exec"),
        {"__file__": str(shop / "app.py"), "NestedStack": aws_cdk.NestedStack},
    )
    return Assembly(folder)


@pytest.fixture(scope="module")
def on_aws(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Assembly]:
    """What AWS gets of the page's app, by the layout."""

    @cache
    def made(layout: str) -> Assembly:
        with pytest.MonkeyPatch.context() as patch:
            return synthesised(shop, tmp_path_factory.mktemp("aws"), *LAYOUTS[layout], patch)

    return made


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_synthesised_in_any_layout(layout: str, on_aws: Callable[[str], Assembly]) -> None:
    found = on_aws(layout)
    text = "".join(path.read_text() for path in found.files)
    functions = found.every("AWS::Lambda::Function")
    for function in functions:
        says = json.dumps(function.properties["Environment"])
        assert not OTHERS.search(function.properties["Handler"] + says), function.name
    told = [one.properties["Environment"]["Variables"] for one in functions]
    assert {one["RECOURSE_SAGAS"] for one in told if "RECOURSE_SAGAS" in one} == {
        "shop.sagas:SAGAS"
    }
    assert {one["ACTION"] for one in told if "ACTION" in one} == {
        "shop.orders:enter",
        "shop.parcels:send",
    }
    queues = [one.properties["QueueName"] for one in found.every("AWS::SQS::Queue")]
    assert all(name.startswith("Shop-dev-") for name in queues)
    assert "Recourse-" not in text and "recourse-dev" not in text
    if layout != "nested stacks":  # whose order is in the stack around them
        must_hear_first(found, ["OrdersEnter", "ParcelsSend"])
    tables = [one.name.rpartition("/")[2] for one in found.every("AWS::DynamoDB::Table")]
    assert "Orders" in tables and "ParcelsTable" in tables and "OrdersTable" not in tables


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_local_cloud_finds_what_it_serves_in_any_layout(
    layout: str,
    on_aws: Callable[[str], Assembly],
    shop: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home, flags = LAYOUTS[layout]
    assert "LocalCloud" not in json.dumps(not_nested(on_aws(layout)))
    here = not_nested(synthesised(shop, tmp_path, home, flags | LOCAL, monkeypatch))
    outputs = {
        name: json.dumps(output["Value"])
        for template in here
        for name, output in template.get("Outputs", {}).items()
        if name.startswith("LocalCloud")
    }
    assert sorted(name[:-8] for name in outputs) == ["LocalCloudApi", "LocalCloudLive"]
    told = "".join(outputs.values())
    for what in ("api_id", "connections_url", "connections_table", "feed_table"):
        assert what in told


def not_nested(assembly: Assembly) -> list[dict[str, Any]]:
    """The templates of the stacks that an operator sees."""
    from recourse.cdk.deploy import templates

    return [one.body for one in templates(assembly.folder).values()]


def test_on_the_local_cloud_its_own_issuer_stands_in_for_any() -> None:
    theirs = cdk.Issuer("https://login.example.com/", ("https://shop.example.com",), "shop/")
    url = "http://127.0.0.1:8000/_issuer"
    local = cdk.Stage(local=True, issuer=url, audience="recourse")
    assert theirs.on(local) == cdk.Issuer(url, ("recourse",))
    assert theirs.on(replace(local, local=False)) == theirs == theirs.on(cdk.Stage(local=True))


def test_what_functions_carry_runs_where_nothing_else_of_the_project_is(
    shop: Path, project: Project, tmp_path: Path
) -> None:
    from recourse.cdk import code

    carried = code.sources(project)
    assert {Path("shop/sagas.py"), Path("shop/mail.html"), Path("recourse/functions/sse.sh")} <= (
        carried.keys()
    )
    for name, path in carried.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / name)
    told = {"ACTION": "shop.orders:enter", "UNDO": "shop.orders:withdraw", "TABLE_NAME": "orders"}
    told |= {"RECOURSE_SAGAS": "shop.sagas:SAGAS", "POWERTOOLS_SERVICE_NAME": "test"}
    says = (
        "import recourse, recourse.functions.step, shop.mailer, shop.orders;"
        "from recourse.functions import kit;"
        "print(recourse.__file__, shop.__file__, *kit.sagas())"
    )
    done = subprocess.run(
        [sys.executable, "-c", says],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "AWS_DEFAULT_REGION": "x"}
        | told,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    here = [str(tmp_path / name / "__init__.py") for name in ("recourse", "shop")]
    assert done.stdout.split() == [*here, "order"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"packages": ("src/shops",)}, "there is no .*src/shops"),
        ({"packages": ("src/recourse",)}, "'src/recourse' must have another name than ours"),
        ({"requirements": Path("nothing.lock")}, "there is no nothing.lock"),
    ],
)
def test_code_that_is_not_there_is_refused_by_name(
    shop: Path, project: Project, changed: dict[str, Any], said: str
) -> None:
    from recourse.cdk import code

    (shop / "src" / "recourse").mkdir(exist_ok=True)
    with pytest.raises(ProjectError, match=said):
        code.fingerprint(project._replace(**changed))


def test_code_of_ones_own_is_what_functions_run(stack: Stack, project: Project) -> None:
    from aws_cdk import Duration
    from aws_cdk.assertions import Template
    from aws_cdk.aws_lambda import Code

    stage = cdk.Stage(project=project, code=lambda: Code.from_inline("mine"))
    for name in ("One", "Two"):
        cdk.HandlerFunction(
            stack,
            name,
            stage=stage,
            handler="shop.handler",
            environment={},
            timeout=Duration.seconds(3),
        )
    template = Template.from_stack(stack)
    template.resource_properties_count_is("AWS::Lambda::Function", {"Code": {"ZipFile": "mine"}}, 2)


def of_name(stack: Stack) -> Any:
    from aws_cdk.aws_dynamodb import Table

    return Table.from_table_name(stack, "T", "orders")


def of_stream(stack: Stack) -> Any:
    from aws_cdk.aws_dynamodb import Table

    stream = "arn:aws:dynamodb:eu-west-1:111122223333:table/orders/stream/2026"
    return Table.from_table_attributes(stack, "T", table_name="orders", table_stream_arn=stream)


def with_key(name: str, **also: Any) -> Callable[[Stack], Any]:
    def made(stack: Stack) -> Any:
        from aws_cdk.aws_dynamodb import Attribute, AttributeType, StreamViewType, Table

        key = Attribute(name=name, type=AttributeType.STRING)
        view = StreamViewType[also.pop("view", "NEW_IMAGE")]
        sort_key = key if also.pop("sorted", False) else None
        return Table(stack, "T", partition_key=key, sort_key=sort_key, stream=view)

    return made


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (of_name, "'orders' must have a stream with new images.*table_stream_arn"),
        (with_key("id"), "'orders' must have the one key 'pk', text, got 'id'"),
        (with_key("pk", view="KEYS_ONLY"), "'orders' must have new images, got KEYS_ONLY"),
    ],
)
def test_a_table_that_cannot_be_a_services_own_is_refused(
    stack: Stack, project: Project, table: Callable[[Stack], Any], said: str
) -> None:
    given = {"orders": table(stack)}
    sagas = project.declared().values()
    with pytest.raises(DeclarationError, match=said):
        cdk.Services(stack, "S", stage=cdk.Stage(project=project), sagas=sagas, tables=given)


def test_an_imported_table_with_its_stream_is_relayed(stack: Stack, project: Project) -> None:
    from aws_cdk.assertions import Template

    stage = cdk.Stage(project=project)
    sagas = project.declared().values()
    services = cdk.Services(
        stack, "S", stage=stage, sagas=sagas, tables={"orders": of_stream(stack)}
    )
    cdk.EventBackbone(stack, "E", stage=stage, services=services)
    stream = "arn:aws:dynamodb:eu-west-1:111122223333:table/orders/stream/2026"
    Template.from_stack(stack).resource_properties_count_is(
        "AWS::Lambda::EventSourceMapping", {"EventSourceArn": stream}, 1
    )


def test_sagas_that_functions_would_not_find_are_refused(stack: Stack, project: Project) -> None:
    stage = cdk.Stage(project=project)
    with pytest.raises(DeclarationError, match=r"find at 'shop.sagas:SAGAS', order, got $"):
        cdk.Services(stack, "S", stage=stage, sagas=[])
    sagas = project.declared().values()
    for what in ("tables", "existing_tables"):
        with pytest.raises(DeclarationError, match=f"{what}: stock must be among"):
            given: Any = {what: {"stock": of_name(stack)}}
            cdk.Services(stack, what, stage=stage, sagas=sagas, **given)
            pytest.fail("it was made")
        stack.node.try_remove_child("T")


@pytest.mark.parametrize("app", ["", "1shop", "my shop", "s" * 21])
def test_an_app_that_queues_cannot_be_named_after_is_refused(app: str) -> None:
    from recourse.cdk.stage import ContextError

    with pytest.raises(ContextError, match="must be a letter and then"):
        cdk.Stage(app=app)


def test_an_api_may_be_behind_an_authorizer_of_ones_own(stack: Stack, project: Project) -> None:
    from aws_cdk.assertions import Template
    from aws_cdk.aws_apigatewayv2_authorizers import HttpLambdaAuthorizer
    from aws_cdk.aws_lambda import Function

    authorises = Function.from_function_name(stack, "Authorises", "theirs")
    stage = cdk.Stage(project=project)
    services = cdk.Services(stack, "S", stage=stage, sagas=project.declared().values())
    events = cdk.EventBackbone(stack, "E", stage=stage, services=services)
    orchestration = cdk.Orchestration(stack, "O", stage=stage, services=services, events=events)

    def api(name: str, **who: Any) -> cdk.SagaApi:
        return cdk.SagaApi(
            stack,
            name,
            stage=stage,
            services=services,
            events=events,
            orchestration=orchestration,
            **who,
        )

    for who in ({}, {"issuer": cdk.Issuer("https://i.example", ("a",)), "authorizer": object()}):
        with pytest.raises(DeclarationError, match="an issuer or an authorizer, and not both"):
            api(f"Without{len(who)}", **who)
    api("Api", authorizer=HttpLambdaAuthorizer("Theirs", authorises))
    template = Template.from_stack(stack)
    routes = template.find_resources("AWS::ApiGatewayV2::Route").values()
    kinds = {
        one["Properties"]["RouteKey"]: one["Properties"]["AuthorizationType"] for one in routes
    }
    assert {key for key, kind in kinds.items() if kind == "CUSTOM"} == {
        f"{verb} /{{proxy+}}" for verb in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH")
    }
    assert not [key for key in kinds if "redeem" in key or "/v/" in key]


def parts(stack: Stack, project: Project, **declared: Any) -> dict[str, Any]:
    """The constructs that every API takes, of sagas declared as the shop's but for this."""
    stage = cdk.Stage(project=project)
    services = cdk.Services(stack, "S", stage=stage, sagas=project.declared().values())
    services.sagas = [replace(saga, **declared) for saga in services.sagas]
    events = cdk.EventBackbone(stack, "E", stage=stage, services=services)
    orchestration = cdk.Orchestration(stack, "O", stage=stage, services=services, events=events)
    made = {"services": services, "events": events, "orchestration": orchestration}
    return {"stage": stage, **made, "issuer": cdk.Issuer("https://i.example", ("a",))}


def test_sagas_that_are_declared_choreographed_need_a_choreography(
    stack: Stack, project: Project
) -> None:
    from aws_cdk.assertions import Template

    given = parts(stack, project, coordination="choreography")
    with pytest.raises(DeclarationError, match="must have a choreography, for it starts order so"):
        cdk.SagaApi(stack, "Without", **given)
    listening = {name: given[name] for name in ("stage", "services", "events")}
    given["choreography"] = cdk.Choreography(stack, "C", **listening)
    cdk.SagaApi(stack, "With", **given)
    (told,) = [
        one["Properties"]["Environment"]["Variables"]["CHOREOGRAPHY"]
        for one in Template.from_stack(stack).find_resources("AWS::Lambda::Function").values()
        if "api" in one["Properties"]["Handler"]
    ]
    assert told == "on"


def test_a_user_pool_has_the_scopes_that_the_sagas_name_for_who_decides(stack: Stack) -> None:
    from aws_cdk.assertions import Template

    stage = cdk.Stage.from_context(stack.node)
    cdk.CognitoIssuer(stack, "Users", stage=stage, sagas=[spending("approver")])
    template = Template.from_stack(stack)
    (server,) = template.find_resources("AWS::Cognito::UserPoolResourceServer").values()
    scopes = {one["ScopeName"] for one in server["Properties"]["Scopes"]}
    assert scopes == {*SCOPES, "approver"}
    groups = template.find_resources("AWS::Cognito::UserPoolGroup").values()
    assert {one["Properties"]["GroupName"] for one in groups} == {*GROUPS, "approver"}
    (login,) = template.find_resources("AWS::Cognito::UserPoolClient").values()
    assert len(login["Properties"]["AllowedOAuthScopes"]) == len(scopes)
    template.has_resource_properties(
        "AWS::Lambda::Function",
        {"Environment": {"Variables": {"OWN_SCOPES": "approver"}}},
    )


def test_an_app_that_has_little_can_erase_what_it_has(stack: Stack, project: Project) -> None:
    from aws_cdk import CfnOutput
    from aws_cdk.assertions import Template

    given = parts(stack, project)
    api = cdk.SagaApi(stack, "Api", **given)
    having = {name: given[name] for name in ("services", "events")}
    erasure = cdk.Erasure(stack, "Erasure", api=api, **having)
    CfnOutput(stack, "Places", value=erasure.places)
    (output,) = Template.from_stack(stack).find_outputs("Places").values()
    whole = json.loads(
        "".join(one if isinstance(one, str) else "there" for one in output["Value"]["Fn::Join"][1])
    )
    lacking = {"consumers": {}, "webhooks": "", "valet": "", "uploads": ""}
    assert {name: whole[name] for name in lacking} == lacking
    assert all(whole[name] for name in ("ledger", "feed", "connections", "documents"))


class Names(dict[str, Any]):
    """The names in an example: what other examples make is made when it is first asked for."""

    def __missing__(self, name: str) -> Any:
        if name in MADE_BY:
            exec(MADE_BY[name], {}, self)
            return self[name]
        if name in cdk.__all__:
            return getattr(cdk, name)
        for module in IN_EXAMPLES:
            if hasattr(found := import_module(module), name):
                return getattr(found, name)
        raise KeyError(name)


def example(name: str) -> str:
    """The example in the docstring of a public class."""
    text = inspect.getdoc(getattr(cdk, name)) or ""
    found = re.search(r"^::\n\n((?:    .*\n|\n)+)", text, re.MULTILINE)
    assert found, f"{name} has no example in its docstring"
    return inspect.cleandoc(found[1])


def examples() -> dict[str, CodeType]:
    return {name: compile(example(name), name, "exec") for name in cdk.__all__}


def makes(name: str) -> str:
    """The variable to which an example assigns what it is about."""
    for statement in ast.parse(example(name)).body:
        match statement:
            case ast.Assign([ast.Name(variable)], ast.Call(func)) if name in ast.unparse(func):
                return variable
    raise AssertionError(f"the example of {name} makes none")


MADE_BY: dict[str, CodeType] = {}


@pytest.mark.parametrize("name", cdk.__all__)
def test_the_example_of_each_construct_is_synthesised(
    name: str, stack: Stack, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aws_cdk import Duration
    from aws_cdk.assertions import Template

    compiled = examples()
    for one in cdk.__all__:
        if one != name:
            monkeypatch.setitem(MADE_BY, makes(one), compiled[one])
    known = Names(stack=stack, ORDER=project.declared()["order"], PROJECT=project)
    if name not in ("Stage", "Issuer"):
        known["stage"] = cdk.Stage(app="Shop", project=project)
    if name == "PullConsumer":
        known["function"] = cdk.HandlerFunction(
            stack,
            "Function",
            stage=known["stage"],
            handler="shop.mailer.handler",
            environment={},
            timeout=Duration.seconds(30),
        )
    exec(compiled[name], {}, known)
    assert isinstance(known[makes(name)], getattr(cdk, name))
    Template.from_stack(stack)
