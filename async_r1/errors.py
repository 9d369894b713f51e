"""The errors a user can meet; each also is the standard error that it refines.

Programming mistakes raise AssertionError instead: whoever reads one of these can mend it
from its message alone.
"""


class AsyncR1Error(Exception):
    """Base of every error that async_r1 raises on purpose."""


class ConfigError(AsyncR1Error, ValueError):
    """A configuration value breaks a rule; the message is one line for a terminal."""


class TaskError(AsyncR1Error, ValueError):
    """A task, prompt or dataset is not usable as given."""


class WireError(AsyncR1Error, ValueError):
    """Bytes from a peer are not a message of this protocol."""


class ProtocolError(AsyncR1Error, RuntimeError):
    """A well-formed message that contradicts what is already known."""


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
