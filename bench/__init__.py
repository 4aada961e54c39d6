"""The benchmarks: ratios in one run, with the size of the run."""
