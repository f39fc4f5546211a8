"""Why Redis does not serve, in words for its operator: in the log, and in `overlay check`.

Strangers are told less (`LedgerUnavailable`): where Redis is, is not their business. No words hold a password: they are
formed from an error's class, and its text is shown only where it cannot quote a login, as some answers to AUTH do.
"""

import logging
import socket
import ssl
from typing import Final

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004 - its name
    InvalidResponse,
    NoPermissionError,
    RedisError,
    ResponseError,
    TryAgainError,
)

QUIET_S: Final = 60.0
_LONGEST_CODE: Final = 20

_log = logging.getLogger(__name__)


class NoPrimary(ConnectionError):
    """No server that has the index was found; the text says why, and is fit for the log."""


class Causes:
    """Says in the log why the Redis at `where` does not serve: each cause once, until Redis has served again.

    An answer ends a cause only QUIET_S after it was said: a Redis that fails every other time fills no log. Moments are
    seconds of any clock that only goes forward.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._said_at_s: dict[str, float] = {}

    def failed(self, cause: str, *, detail: str = "", at_s: float) -> str:
        """Say a cause, unless that was done; return the sentence. Details may be others each time."""
        sentence = f"Redis ({self._where}) does not serve: {cause}{f' ({detail})' if detail else ''}."
        if cause not in self._said_at_s:
            self._said_at_s[cause] = at_s
            _log.warning("%s", sentence)
        return sentence

    def answered(self, *, at_s: float) -> None:
        """Note that Redis served."""
        if self._said_at_s:
            self._said_at_s = {
                cause: said_at_s for cause, said_at_s in self._said_at_s.items() if at_s - said_at_s < QUIET_S
            }


def words(err: BaseException) -> str:
    """Say what kind of failure it is."""
    match err:
        case RedisError():
            said = _of_redis(err)
        case socket.gaierror():
            said = f"its host name is not known ({err.strerror})"
        case ssl.SSLCertVerificationError():
            said = f"its certificate is not trusted ({err.verify_message})"
        case ssl.SSLError():
            said = f"TLS failed ({err.reason})"
        case ConnectionRefusedError():
            said = "it refuses connections"
        case ConnectionResetError() | BrokenPipeError():
            said = "it closed the connection"
        case TimeoutError():
            said = "it did not answer in time"
        case _:
            said = f"it cannot be reached ({str(err) or type(err).__name__})"
    return said


def _of_redis(err: RedisError) -> str:
    match err:
        case NoPrimary():
            said = str(err)
        case AuthenticationError(status_code="NOAUTH"):
            said = "it wants a password"
        case AuthenticationError():
            said = "it refuses the user name or password"
        case BusyLoadingError():
            said = "it is still loading what it had stored"
        case NoPermissionError():
            said = "its user may not run all the commands that deploy/README.md lists"
        case TryAgainError():
            said = "a cluster's slot is being moved, and its nodes have only some of the keys each"
        case ResponseError() | ConnectionError(status_code=str()):
            said = f"it answered {err.status_code or str(err).partition(' ')[0][:_LONGEST_CODE]}"
        case InvalidResponse():
            said = "what it answered is not Redis's protocol"
        case _:
            origin = err.__cause__ or (None if err.__suppress_context__ else err.__context__)
            said = "it closed the connection" if origin is None else words(origin)
    return said
