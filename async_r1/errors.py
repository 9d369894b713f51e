"""The errors a user can meet; each also is the standard error that it refines.

Programming mistakes raise AssertionError instead: whoever reads one of these can mend it
from its message alone.
"""

from enum import StrEnum


class AsyncR1Error(Exception):
    """Base of every error that async_r1 raises on purpose."""


class ConfigError(AsyncR1Error, ValueError):
    """A configuration value breaks a rule; the message is one line for a terminal."""


class TaskError(AsyncR1Error, ValueError):
    """A task, prompt or dataset is not usable as given."""


class Refusal(StrEnum):
    """Why a message is refused, in the words of the counters `wire/rejected/<reason>`."""

    MALFORMED = "malformed"  # no message, or a field that is absent or of the wrong type
    PROTOCOL_VERSION = "protocol_version"
    LENGTH_MISMATCH = "length_mismatch"  # arrays or spans of one segment
    LOGPROBS = "logprobs"  # NaN, infinite or positive
    VOCABULARY = "vocabulary"  # a token id that the model does not have
    UNKNOWN_LEASE = "unknown_lease"  # never granted
    OTHER_BYTES = "other_bytes"  # than were acknowledged under the same key
    OUT_OF_ORDER = "out_of_order"  # not upon the tokens that are there
    TOO_LONG = "too_long"  # more tokens than task.max_new_tokens
    CONTRADICTION = "contradiction"  # any other, of what is known


class WireError(AsyncR1Error, ValueError):
    """Bytes from a peer are not a message of this protocol."""

    def __init__(self, text: str, reason: Refusal = Refusal.MALFORMED) -> None:
        super().__init__(text)
        self.reason = reason


class ProtocolVersionError(WireError):
    """A peer speaks another version of the protocol; the message names both."""

    def __init__(self, text: str) -> None:
        super().__init__(text, Refusal.PROTOCOL_VERSION)


class ProtocolError(AsyncR1Error, RuntimeError):
    """A well-formed message that contradicts what is already known."""

    def __init__(self, text: str, reason: Refusal = Refusal.CONTRADICTION) -> None:
        super().__init__(text)
        self.reason = reason


class PeerError(AsyncR1Error, RuntimeError):
    """A peer failed or left; the message names it."""


class DeadlineError(AsyncR1Error, TimeoutError):
    """A wait ran past its deadline; the message names the peer and what was awaited."""


class TransferError(PeerError):
    """A weight transfer broke; the engine must not sample until a full version has loaded."""


class TrainingError(AsyncR1Error, ArithmeticError):
    """Training cannot go on: NaN or infinity, or no usable group."""


class RunDirError(AsyncR1Error, OSError):
    """The run directory cannot be used as asked."""


class DiskFullError(AsyncR1Error, OSError):
    """Nothing more can be written; the message names the directory."""


class JournalError(AsyncR1Error, OSError):
    """The journal on disk is not readable or not writable."""
