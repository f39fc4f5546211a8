"""The form of the log: lines for people, or one JSON object a line (`[server] log`).

Whatever is logged stays within its line, and a secret stage within the process: control characters are escaped, and
/s/st_… loses its secret. Access lines do not come through logging (see `overlay.web.access_log`) but look the same.
"""

import json
import logging
import re
import sys
import threading
import time
from enum import StrEnum
from functools import lru_cache
from types import TracebackType
from typing import Final, TextIO
from urllib.parse import unquote

_SEGMENT: Final = re.compile(r"(/(?:s|%73)/)([^/\s?#\"']+)")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_EXCEPTION_INDENT: Final = "    "

_log = logging.getLogger("overlay")


class LogForm(StrEnum):
    """What `[server] log` may be."""

    TEXT = "text"
    JSON = "json"


def configure_logging(form: LogForm, stream: TextIO) -> None:
    """Send everything that this process logs, warns or fails of to the stream, in that form.

    Called once, first thing in a process. What Python itself would print for an error that nobody caught is logged.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if form is LogForm.JSON else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("botocore").setLevel(logging.WARNING)  # it tells every start where it found credentials
    logging.captureWarnings(capture=True)
    if form is LogForm.JSON:
        sys.excepthook = _uncaught
        threading.excepthook = _uncaught_in_thread
        sys.unraisablehook = _unraisable


def masked(text: str) -> str:
    """Hide the one secret a path can hold: logs show /s/st_…/ (design §3), however the client encoded it."""
    return _SEGMENT.sub(_shown, text) if "/s/" in text or "/%73/" in text else text


def _shown(segment: re.Match[str]) -> str:
    return f"{segment[1]}st_…" if "st_" in unquote(segment[2]) else segment[0]


def one_line(text: str) -> str:
    r"""Escape what could end the line or move the cursor: a line feed becomes \n."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def head(form: LogForm, logger: str, level: str, at_ms: int) -> str:
    """Form what stands before the message; in JSON the object's first fields and the comma after them."""
    at_s, milliseconds = divmod(at_ms, 1000)
    if form is LogForm.TEXT:
        return f"{_local(at_s)},{milliseconds:03} {level} {logger}: "
    return f'{{"time":"{_utc(at_s)}.{milliseconds:03}Z","level":"{level}","logger":{_quoted(logger)},'


@lru_cache(maxsize=64)
def _quoted(logger: str) -> str:
    return json.dumps(logger)


@lru_cache(maxsize=2)
def _local(at_s: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))


@lru_cache(maxsize=2)
def _utc(at_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s))


class TextFormatter(logging.Formatter):  # logging's interface
    """Writes `time level logger: message`; a traceback follows, indented, so that no line of it looks like one."""

    def format(self, record: logging.LogRecord) -> str:
        """Form the lines."""
        line = head(LogForm.TEXT, record.name, record.levelname, int(record.created * 1000)) + one_line(
            record.getMessage()
        )
        below = _traceback(self, record).splitlines()
        return masked("\n".join([line, *(_EXCEPTION_INDENT + one_line(row) for row in below)]))


class JsonFormatter(logging.Formatter):  # logging's interface
    """Writes an object of `time` (UTC), `level`, `logger`, `message` and, for an error, `exception`, its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Form the line."""
        rest = {"message": masked(record.getMessage())}
        exception = _traceback(self, record)
        if exception:
            rest["exception"] = masked(exception)
        # ASCII alone: what is no valid text (a lone surrogate) can be written, too.
        return head(LogForm.JSON, record.name, record.levelname, int(record.created * 1000)) + json.dumps(rest)[1:]


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts)


def _uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:  # noqa: ARG001
    _log.critical("ended by an error that nobody caught", exc_info=error)


def _uncaught_in_thread(failed: threading.ExceptHookArgs) -> None:
    name = failed.thread.name if failed.thread is not None else "?"
    _log.error("the thread %s ended by an error that nobody caught", name, exc_info=failed.exc_value)


def _unraisable(failed: "sys.UnraisableHookArgs") -> None:
    _log.error("%s %r", failed.err_msg or "an error was ignored in", failed.object, exc_info=failed.exc_value)
