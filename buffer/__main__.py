"""`python -m buffer --config RUN/config/resolved.json`."""

import sys

from async_r1.role import STOPPED, Role, Stopped


def main() -> int:
    role = Role.start("buffer")
    try:
        from buffer.server import serve

        serve(role)
    except Stopped:
        return STOPPED
    return 0


if __name__ == "__main__":
    sys.exit(main())
