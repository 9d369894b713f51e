"""`python -m async_r1`: the same as the `async_r1` script."""

import sys

from async_r1.cli import main

if __name__ == "__main__":
    sys.exit(main())
