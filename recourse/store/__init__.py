"""One table: rows of DynamoDB as plain Python, and the clients of AWS.

- `table`: `Table`, through which everything here reads and writes;
- `expressions`: what a write changes, and what must hold for it to happen;
- `contention`: what is raised where others are in the way, and how long one tries again;
- `items`: rows as plain Python, and back;
- `cursors`: where a page of a list begins;
- `aws`: clients, credentials, and which errors of AWS may pass.
"""
