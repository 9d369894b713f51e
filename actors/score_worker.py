"""`python -m actors.score_worker FD`: scores completions until its socket closes.

A process of its own, because a reward may hang, crash or be killed. It ends with whoever started
it: at the end of the socket while it waits, and by the kernel's signal while it scores.
"""

import ctypes
import os
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from async_r1.config_task import RewardConfig, TaskConfig
from async_r1.rewards import Outcome, Rewards, make_rewards
from async_r1.rewards.weighted import describe
from async_r1.tasks import load_task

READY = "ready"

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, connection = int(sys.argv[1]), Connection(int(sys.argv[2]))
    _die_with(parent)
    _volunteer()
    try:
        _serve(connection)
    except (EOFError, ConnectionError):  # the actor is gone
        pass


def _serve(connection: Connection) -> None:
    reward, task = connection.recv()
    rewards, error = _make(reward, task)
    connection.send(READY)
    while True:
        prompt, completion = connection.recv()
        connection.send(rewards.outcome(prompt, completion) if rewards else Outcome(error=error))


def _make(reward: RewardConfig, task_config: TaskConfig) -> tuple[Rewards | None, str]:
    """The rewards, or why there are none, which then is what every rollout is told."""
    try:
        task = None if reward.function else load_task(task_config)
        warm_up = getattr(task, "warm_up", None)
        if warm_up is not None:  # what it imports, no score's own time pays for
            warm_up()
        return make_rewards(reward, task_config, task), ""
    except (Exception, SystemExit) as error:
        return None, describe(error)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the one that started it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before that
        sys.exit(0)


def _volunteer() -> None:
    """When memory runs out, this process goes before the actor: it can be replaced."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:  # no Linux, or not allowed
        pass


if __name__ == "__main__":
    main()
