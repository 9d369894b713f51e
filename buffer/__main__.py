"""`python -m buffer --config RUN/config/resolved.json`."""

import sys

from async_r1.role import Role, run_role


def _run(role: Role) -> None:
    from buffer.server import serve

    serve(role)


if __name__ == "__main__":
    sys.exit(run_role("buffer", _run))
