"""Valet keys: scoped, short-lived, revocable and audited access to documents in S3.

A key is a row (`keys`) and a signed token that names it (`token`). A token never opens S3: it is
redeemed (`keys.Redeemer`), which decides in one conditional transaction and then has a URL signed
(`sigv4`) that lives ten seconds. What is uploaded becomes visible by `commit` alone.
"""
