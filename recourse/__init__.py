"""Distributed transactions that can be trusted on AWS serverless.

Start at `recourse.saga` (how a saga is declared) and `recourse.step` (how a step is written).
"""
