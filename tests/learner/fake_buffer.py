"""A buffer of a thread."""

import threading
from collections.abc import Callable

from async_r1.channels import Router
from async_r1.wire import Message

Answer = Callable[[Message], Message | None]


class FakeBuffer:
    """Answers what `answer` says; keeps all that it received."""

    def __init__(self, answer: Answer) -> None:
        self.router = Router("tcp://127.0.0.1:*")
        self.address = self.router.socket.last_endpoint.decode()
        self.received: list[Message] = []
        self._answer = answer
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)
        self.router.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            received = self.router.receive(0.02)
            if received is not None:
                peer, message = received
                assert isinstance(message, Message)
                self.received.append(message)
                answer = self._answer(message)
                if answer is not None:
                    number = {"request": message.values.get("request")}
                    values = {**number, **answer.values}
                    self.router.send(peer, Message(answer.kind, values, answer.arrays))
