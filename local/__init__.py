"""The local cloud: the CDK app that AWS gets, deployed by the CDK CLI to an emulator, ministack."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCAL = ROOT / ".local"


class LocalCloudError(Exception):
    """The local cloud cannot run as configured; the message says what to change."""
