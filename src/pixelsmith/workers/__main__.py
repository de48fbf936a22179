"""``python -m pixelsmith.workers KIND``: the process of a worker, which another process starts and calls."""

import sys

from pixelsmith.workers.processes import serve

if __name__ == "__main__":
    serve(sys.argv[1])
