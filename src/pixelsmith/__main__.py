"""``python -m pixelsmith``."""

from pixelsmith.cli import main

if __name__ == "__main__":
    main()
