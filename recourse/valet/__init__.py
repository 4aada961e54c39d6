"""Valet keys: scoped, short-lived, revocable and audited access to documents in S3.

A key is a row (`keys`) and a signed token that names it (`token`). A token never opens S3: it is
redeemed (`redeem.Redeemer`), which decides in one conditional transaction and then signs a URL
(`sigv4`) that is valid for ten seconds. An upload becomes visible only when it is completed
(`commit.Committer`). `issue.Issuer` issues keys::

    issued = issuer.issue(
        "asha", "download", "tickets/1.pdf", expires_in=3600, max_uses=3, upload=None, by=actor
    )
    redeemer.redeem(issued.token, actor).url  # https://…s3…amazonaws.com/objects/asha/tickets/1.pdf?…
"""
