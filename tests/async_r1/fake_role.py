"""Stands in for a role: `python fake_role.py KIND --config RUN/config/resolved.json [--index N]`.

What it does is in the environment: FAKE_ROLES maps role names to one of the functions below.
Every process writes a file named after its pid into FAKE_PIDS, so that a test can see which are
left. Events are files in the run directory.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import setproctitle

DEADLINE_S = 60.0


class Fake:
    def __init__(self, name: str, run: Path) -> None:
        self.name = name
        self.run = run

    def say(self, state: str, detail: str = "") -> None:
        value = {"state": state, "detail": detail, "since": time.time(), "pid": os.getpid()}
        path = self.run / "roles" / f"{self.name}.json"
        path.with_suffix(".new").write_text(json.dumps(value))
        path.with_suffix(".new").replace(path)

    def wait(self, event: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not (self.run / event).exists():
            assert time.monotonic() < deadline, f"{self.name}: no {event}"
            time.sleep(0.02)

    def serve(self) -> None:
        """Run until the learner has ended."""
        self.say("running")
        self.wait("finished")
        self.say("done")

    def train(self) -> None:
        """Run until told, then end the run."""
        self.say("running")
        self.wait("go")
        (self.run / "finished").touch()
        self.say("done")

    def train_last(self) -> None:
        """End some time after buffer and actors did."""
        self.say("running")
        self.wait("go")
        (self.run / "finished").touch()
        time.sleep(1.0)
        self.say("done")

    def crash(self) -> None:
        self.say("running")
        self.wait("go")
        for line in range(40):
            print(f"line {line}", flush=True)
        (self.run / "crashed").touch()
        raise RuntimeError("the cause")

    def crash_too(self) -> None:
        """As a peer does that loses its connection to the one that crashed."""
        self.say("running")
        self.wait("crashed")
        time.sleep(0.3)  # within the time in which the launcher collects who follows
        print("the consequence", flush=True)
        sys.exit(3)

    def killed(self) -> None:
        self.say("running")
        self.wait("go")
        os.kill(os.getpid(), signal.SIGSEGV)

    def killed_twice(self) -> None:
        """Serve in the third life; a life is counted before it ends."""
        lives = self.run / "lives"
        lives.write_text(lives.read_text() + "+" if lives.exists() else "+")
        self.say("running")
        if len(lives.read_text()) == 3:
            self.serve()
            return
        os.kill(os.getpid(), signal.SIGKILL)

    def leave(self) -> None:
        """End with 0, but without having been told to."""
        self.say("running")
        self.wait("go")

    def refuse(self) -> None:
        """End as a role does that met a bad value, and said which."""
        self.say("running")
        self.wait("go")
        self.say("failed", "model.max_length must be > 70, got 16")
        sys.exit(2)

    def never_ready(self) -> None:
        self.say("starting", "loading a very large model")
        time.sleep(DEADLINE_S)

    def never_ends(self) -> None:
        """Ignore the end of the run, but not SIGTERM."""
        self.say("running")
        time.sleep(DEADLINE_S)

    def stubborn(self) -> None:
        """Ignore SIGTERM; so does a child, and so does one in a session of its own."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for new_session in (False, True):
            child = [sys.executable, __file__, "grandchild"]
            subprocess.Popen(child, start_new_session=new_session)
        self.say("running")
        time.sleep(DEADLINE_S)


def main() -> None:
    (Path(os.environ["FAKE_PIDS"]) / str(os.getpid())).touch()
    kind = sys.argv[1]
    setproctitle.setproctitle(f"async_r1:fake {kind}")  # overwrites what /proc shows, by default
    if kind == "grandchild":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(DEADLINE_S)
        return
    config = Path(sys.argv[sys.argv.index("--config") + 1])
    index = int(sys.argv[sys.argv.index("--index") + 1]) if "--index" in sys.argv else 0
    name = kind if kind == "buffer" else f"{kind}_{index:03d}"
    behaviour = json.loads(os.environ["FAKE_ROLES"]).get(name)
    behaviour = behaviour or ("train" if kind == "learner" else "serve")
    getattr(Fake(name, config.parent.parent), behaviour)()


if __name__ == "__main__":
    main()
