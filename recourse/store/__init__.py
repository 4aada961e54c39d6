"""Rows of DynamoDB, and the clients of AWS.

- `items`: rows as plain Python, and back;
- `cursors`: where a page of a list begins;
- `aws`: clients, credentials, and which errors of AWS may pass.
"""
