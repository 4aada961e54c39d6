"""The test ground: moto, with what it lacks for true tests of sagas, each gap in a file of its own.

`tests/testing/test_gaps.py` fails when moto closes one, so that our file can go.
"""
