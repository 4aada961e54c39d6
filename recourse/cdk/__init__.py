"""Constructs for the CDK, each one capability; alone in the library they know `aws_cdk`.

`stage.Stage` is what a deployment is told by its context, and each construct takes it.
"""
