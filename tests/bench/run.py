"""Measures the product beside its floors and prints one table: `python tests/bench/run.py [NAME ...] [--quick]`.

Every group starts its own real server and runner in a temporary folder. Nothing else should run meanwhile: the load
before each group is printed, and ratios to the floor say more than absolute numbers.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from figures import Figure, as_json, as_table

GROUPS = {
    "push": "push_latency",
    "burst": "burst",
    "log": "big_log",
    "artifacts": "artifact_saving",
    "mount": "artifact_mounting",
    "cli": "cli_start",
    "webhooks": "webhooks",
    "github": "github_loop",
    "writes": "github_writes",
    "memory": "memory",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(GROUPS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller data, to see that it works")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in GROUPS]:
        parser.error(f"no group is called {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    root = Path(tempfile.mkdtemp(prefix="dstack-bench-"))
    figures: list[Figure] = []
    broken = False
    try:
        for name in args.names or GROUPS:
            figures += _group(name, root / name, args.quick)
    except RuntimeError as error:
        print(f"broken off: {error}", file=sys.stderr)
        broken = True
    finally:
        if args.keep:
            print(f"kept {root}", file=sys.stderr)
        else:
            shutil.rmtree(root, ignore_errors=True)
    print(as_json(figures) if args.json else as_table(figures))
    return int(broken)


def _group(name: str, folder: Path, quick: bool) -> list[Figure]:
    folder.mkdir(parents=True)
    began, load = time.monotonic(), os.getloadavg()[0]
    found: list[Figure] = list(importlib.import_module(GROUPS[name]).measure(folder, quick))
    print(f"{name}: {time.monotonic() - began:.0f} s, load before {load:.1f}", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
