"""The steps' actions and undos: one module for each service, with its rules and its own table."""
