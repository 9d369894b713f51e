"""`async_r1 launch` with roles of `fake_role.py`: `python fake_launcher.py OVERRIDE...`."""

import sys
from pathlib import Path

from async_r1.compose import compose
from async_r1.launch import launch

FAKE_ROLE = Path(__file__).with_name("fake_role.py")

if __name__ == "__main__":
    commands = {
        kind: [sys.executable, str(FAKE_ROLE), kind] for kind in ("buffer", "actor", "learner")
    }
    sys.exit(launch(compose(sys.argv[1:]), commands=commands))
