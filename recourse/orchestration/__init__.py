"""Sagas as state machines: the compiler, their executions, and the sweeper.

`compiler` makes a machine of a declaration, `executions` starts and looks at runs, `sweeper` brings
on whatever has come to a halt, by what `markers` it finds.
"""
