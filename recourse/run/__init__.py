"""What happens between a task that asks for a step and the one write that it makes.

`task` says what a step is asked for, `runner.StepRunner` runs it, `barrier` sees to it that it acts
once, `faults` says which faults may be asked for and `fault_injector` injects them round a runner,
`parking` hands what is stuck to operators, `failures` has what an error is called on every surface.
Change nothing here without `tests/integration/test_every_saga.py` and the mutants of
`tests/mutants`.
"""
