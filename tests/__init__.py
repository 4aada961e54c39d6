"""The tests; `ROOT` is the checkout, `LOCAL` what they and the local cloud keep there."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCAL = ROOT / ".local"
