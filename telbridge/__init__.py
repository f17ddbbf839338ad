"""telbridge puts a hosted voice agent on the phone."""

import os

# NumPy's BLAS would start a thread a core in each process when it is loaded; nothing here is worth one, and a
# nursery must have none when it forks.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = "0.1.0"
