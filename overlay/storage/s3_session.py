"""boto3's session, with botocore's parser of times replaced by Python's where that can read them.

A listing has a time for each key. botocore reads it with dateutil: 43 % of what a listing costs (py-spy), in Python, so
that pages wait for the interpreter's lock while a rebuild or a reconcile lists the bucket.
"""

from datetime import datetime

import boto3
import botocore.session
from botocore.utils import parse_timestamp


def made() -> boto3.Session:
    """Make a session; credentials come by boto3's own chain."""
    core = botocore.session.get_session()
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=read_time)
    return boto3.Session(botocore_session=core)


def read_time(value: str) -> datetime:
    """Read a time as services write it: ISO 8601 in bodies; headers and others have forms that botocore knows."""
    if str(value).endswith("Z"):  # seconds come as numbers; of other forms Python's parser may think otherwise
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass
    return parse_timestamp(value)
