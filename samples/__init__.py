"""The real input: requests, holdings and a document; the demo, and the card provider's stand-in."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCAL = ROOT / ".local"
