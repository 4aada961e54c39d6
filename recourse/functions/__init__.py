"""The Lambda handlers that are the same in every deployment.

Constructs of `recourse.cdk` name each by string; its environment says what it serves
(`RECOURSE_SAGAS`, `ACTION`, names of tables and queues). `kit` makes what they share when it is
first needed. A step's function loads its own service and no declaration.
"""

import gc

# A start creates 60,000 to 80,000 objects that stay. At its default of 700 the collector goes over
# them again and again and finds nothing, for 3 to 4 % of a start's instructions (callgrind).
gc.set_threshold(20_000)
