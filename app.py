"""The CDK app: context in, stacks out. It makes no call to AWS."""

from aws_cdk import App, Validations
from cdk_nag import AwsSolutionsChecks

from infra.app import build
from recourse.cdk.stage import Stage

app = App()
build(app, Stage.from_context(app.node))
Validations.of(app).add_plugins(AwsSolutionsChecks())
app.synth()
