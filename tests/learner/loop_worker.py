"""`python -m learner` with publications into a file in place of actors.

python -m tests.learner.loop_worker --config RUN/config/resolved.json --index 0
"""

import json
from collections.abc import Iterator

from async_r1.role import Role
from learner.__main__ import main


class RecordingPublisher:
    """Notes each publication: version, parent, names, and the sum over all weights."""

    def __init__(self, role: Role, num_actors: int, _device: object) -> None:
        self._path = role.run_dir.root / "published.jsonl"
        assert num_actors == role.config.actors.count

    def wait_for_actors(self, timeout_s: float) -> None: ...

    def publish(
        self, version: int, parent: int, weights: Iterator[tuple[str, object]]
    ) -> dict[str, float]:
        sums = {name: weight.double().sum().item() for name, weight in weights}  # type: ignore[attr-defined]
        note = {"version": version, "parent": parent, "sums": sums}
        with self._path.open("a") as file:
            file.write(json.dumps(note) + "\n")
        return {"time/publish_s": 0.25}

    def poll(self) -> None: ...

    def close(self) -> None: ...


if __name__ == "__main__":
    from learner import loop

    run = loop.run
    loop.run = lambda role: run(role, RecordingPublisher)
    main()
