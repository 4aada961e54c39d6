"""What a start or a deploy would stumble over, found before: `recourse doctor`.

`machine` looks at this machine, `account` at the AWS account, against what the templates of a stage
(`planned`) ask of it. Nothing here changes anything.
"""
