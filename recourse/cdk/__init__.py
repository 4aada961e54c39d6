"""Constructs for the CDK, one for each capability; only this package imports `aws_cdk`.

`stage.Stage` holds a deployment's settings, read from the CDK context; every construct receives it.
"""
