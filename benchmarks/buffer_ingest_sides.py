"""The bare sides of `buffer_ingest.py`, in a process of their own: ADDRESS PATH.

Requests come as JSON lines on standard input, answers leave the same way.

    discard  receive `count` messages and forget them; tell the driver when all were there
    loop     receive one, write its frames to the file, answer it; `count` times
    file     write messages of these frame sizes to the file; nothing is received
"""

import json
import os
import sys
import time
from typing import Any

import zmq


def main() -> int:
    address, path = sys.argv[1:]
    router: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    router.setsockopt(zmq.SNDHWM, 0)
    router.setsockopt(zmq.RCVHWM, 0)
    router.bind(address)
    say(ready=True)
    for line in sys.stdin:
        request = json.loads(line)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        try:
            say(seconds=SIDES[request.pop("side")](router, file, **request))
        finally:
            os.close(file)
    return 0


def discard(router: "zmq.Socket[bytes]", file: int, count: int, copy: bool) -> float:
    say(ready=True)
    for _ in range(count):
        last = router.recv_multipart(copy=copy)
    router.send_multipart([bytes(last[0]) if copy else last[0].bytes, b"all"])
    return 0.0


def loop(router: "zmq.Socket[bytes]", file: int, count: int) -> float:
    say(ready=True)
    for _ in range(count):
        peer, *frames = router.recv_multipart()
        os.writev(file, frames)
        router.send_multipart((peer, b"ack"))
    return 0.0


def write(router: "zmq.Socket[bytes]", file: int, count: int, sizes: list[int]) -> float:
    frames = [os.urandom(size) for size in sizes]
    started = time.perf_counter()
    for _ in range(count):
        os.writev(file, frames)
    return time.perf_counter() - started


SIDES = {"discard": discard, "loop": loop, "file": write}


def say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    sys.exit(main())
