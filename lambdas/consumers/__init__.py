"""The consumers, a file each: what it hears and may do, its rules and its handler."""
