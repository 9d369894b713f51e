"""Reward functions in the way of users: some answer, some misbehave as their completion says."""

import ctypes
import math
import os
import signal
import struct
import subprocess
import sys
import time


def behave(data_source, solution_str, ground_truth, extra_info, unit=1.0):
    """Does what the first word of the completion says."""
    word = solution_str.split()[0]
    if word == "raise":
        raise LookupError("no\nsuch answer")
    if word == "hang":
        time.sleep(1000)
    if word == "exit":
        os._exit(7)
    if word == "quit":
        sys.exit("enough")
    if word == "segfault":
        ctypes.string_at(0)
    if word == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "child":
        subprocess.Popen(["sleep", "1000"], env={**os.environ})
        time.sleep(1000)
    if word == "stuck":  # in the middle of an answer
        os.write(int(sys.argv[2]), struct.pack("!i", 1000) + b"pick")
        os.kill(os.getpid(), signal.SIGSTOP)
    if word == "slow":
        time.sleep(0.3)
    returned = {
        "none": None,
        "nan": math.nan,
        "inf": -math.inf,
        "text": "1.0",
        "huge": 1e300,
        "bool": True,
        "int": 2,
        "mapping": {"score": 0.5, "digits": 3, "right": True, "pred": "12"},
        "empty": {},
        "taken": {"score": 0.5, "format": 1.0},
        "bad_extra": {"score": 0.5, "digits": math.nan},
        "pid": {"score": 0.0, "pid": os.getpid()},
    }
    return returned.get(word, unit)


async def later(data_source, solution_str, ground_truth, extra_info):
    return 0.25


def seen(**keywords):
    """The keywords themselves, as numbers that a test can look at."""
    assert sorted(keywords) == ["data_source", "extra_info", "ground_truth", "solution_str"]
    info = keywords["extra_info"]
    assert keywords["data_source"] == "arithmetic" and keywords["ground_truth"] == "3367"
    assert info["prompt_id"] == "arithmetic/2395+972" and info["prompt"] == "2395 + 972 = ?"
    return {"score": 1.0, "level": info["level"], "num_tokens": info["num_tokens"],
            "truncated": info["truncated"]}  # fmt: skip


def too_few(solution_str, ground_truth):
    return 1.0


not_a_function = 3
