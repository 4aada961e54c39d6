"""Where AWS calls in: each handler parses, calls one function of the kit, and answers."""
