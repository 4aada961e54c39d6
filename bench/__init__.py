"""The benchmarks: ratios in one run, with the size of the run."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCAL = ROOT / ".local"
