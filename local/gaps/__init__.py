"""What ministack does unlike AWS and we depend on: a file each, run in its process by local.boot.

Each has a test in tests/local/test_gaps.py that looks for the gap in ministack as shipped, and so
fails once it is closed there.
"""
