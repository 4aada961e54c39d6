"""The handlers that AWS calls and that every deployment runs alike.

Each is named by string in a construct of `recourse.cdk`, and told by its environment what it serves
(`RECOURSE_SAGAS`, `ACTION`, names of tables and queues). `kit` makes what they share when it is
first needed. A step's function loads its own service and no declaration.
"""
