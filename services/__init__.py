"""What each step does and undoes: one module a service, with its rules and its own table."""
