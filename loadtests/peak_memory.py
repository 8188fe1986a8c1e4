"""Runs a command and prints, as the last line of standard error, the peak resident memory of that command."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

if __name__ == "__main__":
    code = subprocess.call(sys.argv[1:])
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(json.dumps({"peak_bytes": peak}), file=sys.stderr)
    sys.exit(code)
