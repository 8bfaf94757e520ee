"""Benchmarks. Threads of numpy, which reads this when it is loaded, are those of a worker."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
