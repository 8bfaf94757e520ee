"""The command line, and what composes stages and models. Libraries read these settings when they are loaded."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin lose tenfold where cores are shared
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's products are small here, and its threads spin, too
