"""This deployment's own Lambda functions: its API, consumers, subscribers and probe."""
