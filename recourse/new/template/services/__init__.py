"""The services, one module each: its rules, an action beside its undo. None imports another."""
