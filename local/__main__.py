"""`python -m local`: the local cloud in the foreground, at the ports of PORT and AWS_PORT."""

import os

from local.cloud import AWS_PORT, PORT, run

run(port=int(os.environ.get("PORT", PORT)), aws_port=int(os.environ.get("AWS_PORT", AWS_PORT)))
