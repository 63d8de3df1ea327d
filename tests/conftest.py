"""For all tests: what is compiled stays compiled, for each worker and each process that a test starts."""

from __future__ import annotations

import os
import sys

# Where an image sets it, every worker would compile all tests anew, and every process all of the product: seconds each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
