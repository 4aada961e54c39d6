"""Sagas by events alone: who listens to whom, and the listener of each step.

`routing` says which event moves which step; `listener` takes a step's messages, and has it run.
"""
