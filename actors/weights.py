"""The actor's side of weight publication: joins the learner's group, loads what it announces."""

import time

from actors.engine import SamplingEngine
from async_r1.channels import Dealer
from async_r1.errors import AsyncR1Error, TransferError
from async_r1.fields import get
from async_r1.wire import Message


class WeightReceiver:
    """Control messages from the learner; the tensors go through the engine's transfer engine."""

    def __init__(self, address: str, name: str, index: int, engine: SamplingEngine) -> None:
        self.dealer = Dealer(address, name)
        self._engine = engine
        self._index = index
        self._update_s = 0.0

    def join(self) -> None:
        """Ask for membership of the weight group."""
        values = {
            "index": self._index,
            "policy_version": self._engine.policy_version,
            "world_size": self._engine.world_size,
        }
        self.dealer.send(Message("weights_join", values))

    def poll(self) -> bool:
        """Serve what the learner asked for, between two engine steps; whether a version loaded.

        A transfer that breaks is told to the learner, which names the members that failed; this
        engine then samples nothing until a later version has loaded.
        """
        loaded = False
        while (message := self.dealer.receive()) is not None:
            started = time.monotonic()
            try:
                self._serve(message)
            except AsyncR1Error as error:
                self.dealer.send(Message("weights_failed", {"text": str(error)}))
                return loaded
            loaded = loaded or message.kind == "weights_update"
            self._update_s += time.monotonic() - started
        return loaded

    def take_update_s(self) -> float:
        """Seconds spent joining groups and loading versions since the last call."""
        seconds, self._update_s = self._update_s, 0.0
        return seconds

    def close(self) -> None:
        self.dealer.send(Message("weights_leave"))
        self.dealer.close()

    def _serve(self, message: Message) -> None:
        if message.kind == "weights_group":
            epoch = get(message, "epoch", int)
            try:
                self._engine.join_weight_group(get(message, "init_info", dict))
            except AsyncR1Error:
                raise
            except Exception as error:  # whatever the transfer engine's library raises
                raise TransferError(f"cannot join weight group {epoch}: {error}") from error
            self.dealer.send(Message("weights_ready", {"epoch": epoch}))
        elif message.kind == "weights_update":
            version = get(message, "policy_version", int)
            self._engine.update_weights(version, get(message, "update_info", dict))
            self.dealer.send(Message("weights_done", {"policy_version": version}))
        else:
            raise TransferError(f"learner sent an unknown message {message.kind!r}")
