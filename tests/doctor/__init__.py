"""The doctor: each fault is planted, alone, and found."""
