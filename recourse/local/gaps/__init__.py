"""Differences between ministack and AWS that matter here, one file each.

`recourse.local.boot` runs each file's `close()` in ministack's process. Each has a test in
tests/local/test_gaps.py that asserts the gap in ministack as shipped, so that it fails once
ministack has closed the gap.
"""
