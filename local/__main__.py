"""`python -m local`: the local cloud in the foreground, which `make up` sets up and starts."""

import argparse
import os
import sys
from collections.abc import Sequence

from cli.visible import visible
from local import LocalCloudError
from local.cloud import AWS_PORT, PORT, run

PORTS = {"PORT": PORT, "AWS_PORT": AWS_PORT}
VARIABLES = f"""\
environment variables:
  PORT              port of the API (default {PORT})
  AWS_PORT          port of the AWS endpoint (default {AWS_PORT})
  RECOURSE_WORKERS  most function workers at a time (default: by the machine's memory)

0 takes a free port. Ctrl-C stops the cloud; its data stays in .local/cloud.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the local cloud until Ctrl-C; its settings are environment variables."""
    parser = argparse.ArgumentParser(
        prog="python -m local",
        description="Deploy the CDK app to an AWS emulator on this machine and serve its API.",
        epilog=VARIABLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    try:
        ports = {name: int(os.environ.get(name, PORTS[name])) for name in PORTS}
    except ValueError:
        parser.error("PORT and AWS_PORT must be whole numbers")
    try:
        run(port=ports["PORT"], aws_port=ports["AWS_PORT"])
    except LocalCloudError as problem:
        lines = str(problem).split("\n")
        sys.exit("\n".join(visible(line) for line in ["local cloud: " + lines[0], *lines[1:]]))


if __name__ == "__main__":
    main()
