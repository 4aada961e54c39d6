"""This deployment's own Lambda functions: its API, consumers, subscribers, probe and payments."""
