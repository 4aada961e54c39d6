"""What each step does and undoes: one module a service, with its rules and its own table."""

HOLDINGS = {"flights": "flights", "hotels": "hotels", "cars": "cars", "accounts": "payments"}
"""What the API shows of what services hold: the path, and the service whose table has it."""
