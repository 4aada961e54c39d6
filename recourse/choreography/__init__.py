"""Sagas by events alone: which step is triggered by which event, and the listener of each step.

- `routing`: which events trigger a step, by the declaration; its table and diagram;
- `listener`: receives a step's messages and has the step run.
"""
