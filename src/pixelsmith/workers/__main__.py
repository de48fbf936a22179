"""``python -m pixelsmith.workers KIND``: the process of a worker, started and called by the process of a run."""

import sys

from pixelsmith.workers.processes import serve

if __name__ == "__main__":
    serve(sys.argv[1])
