"""DynamoDB tables as plain Python, and the clients of AWS.

- `table`: `Table`, through which the whole library reads and writes;
- `expressions`: what an update changes, and the conditions on which a write happens;
- `contention`: the errors of conflicting writes, and how long they are retried;
- `lease`: a lease in a row, held by one process at a time;
- `items`: rows as plain Python, and back;
- `cursors`: where a page of a list begins;
- `aws`: clients, credentials, and which errors of AWS are transient;
- `credentials`: their type, without botocore, for what signs requests by itself.
"""
