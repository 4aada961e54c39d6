"""The doctor looks at the local cloud, with its credentials, as at any account."""

from __future__ import annotations

from recourse.cli.api import Api
from recourse.doctor.account import Account
from recourse.doctor.planned import Planned
from recourse.local.aws import ACCOUNT, REGION
from recourse.local.cloud import LocalCloud


def test_the_local_cloud_is_an_account_in_good_order_but_for_quotas_that_it_has_not(
    api: Api, cloud: LocalCloud
) -> None:
    api.get("/sagas")  # the tier wants a role of the app to have been judged, also by this alone
    planned = Planned.of(cloud.aws_config.with_name("cdk.out"))
    found = list(Account(cloud.client, planned, REGION).findings())
    (unknown,) = (one for one in found if one.level != "ok")
    assert (unknown.level, unknown.check) == ("warning", "quotas")
    assert unknown.what.startswith("servicequotas:GetServiceQuota was not answered")
    assert "allow" not in unknown.remedy, "nobody has refused it"
    assert f"account {ACCOUNT}, region {REGION}" in {one.what for one in found}
    (stacks,) = (one.what for one in found if "CloudFormation stacks" in one.what)
    assert ", 0 more with this stage" in stacks, "they are deployed there"
