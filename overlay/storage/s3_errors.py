"""What boto3 raises, in our words: by class, error code and status, never by an error's text.

A sentence holds neither keys nor signatures: it names the error code, the place, and what to check.
"""

from http import HTTPStatus
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
    TokenRetrievalError,
)
from urllib3.exceptions import HTTPError

from overlay.domain.errors import OverlayError, StoreFull, StoreUnavailable

FOREIGN: Final = (ClientError, BotoCoreError, HTTPError, OSError, RecursionError)
"""All that a call of boto3, or reading a body it returned, raises for reasons outside this program.

RecursionError: boto3 asks a server that redirects (http to https, say) for the bucket's region, is redirected, asks …
"""

ForeignError = ClientError | BotoCoreError | HTTPError | OSError | RecursionError

_LONGEST_CODE: Final = 60

# HEAD answers have no body, so boto3 makes their code from the status.
_ABSENT: Final = frozenset({"NoSuchKey", "NoSuchUpload", "NotFound", "404"})
_FULL: Final = frozenset(
    {
        "QuotaExceeded",  # Ceph, Backblaze and others
        "QuotaExceededException",
        "InsufficientStorage",
        "InsufficientCapacity",
        "NotEnoughSpace",
        "XMinioStorageFull",
        "XMinioAdminBucketQuotaExceeded",
    }
)
_CHECK: Final = {
    "NoSuchBucket": "There is no such bucket: check [store] bucket and endpoint_url, or create it.",
    "InvalidAccessKeyId": "The server does not know the access key: check the credentials (AWS_ACCESS_KEY_ID, or the "
    "profile or role in use).",
    "SignatureDoesNotMatch": "The secret key does not belong to the access key: check the credentials "
    "(AWS_SECRET_ACCESS_KEY, or the profile or role in use), and that no proxy changes requests on their way.",
    "AccessDenied": "The credentials do not allow this: they need GetObject, PutObject, DeleteObject, "
    "AbortMultipartUpload, ListBucket and ListBucketMultipartUploads for the bucket and prefix.",
    "ExpiredToken": "The temporary credentials have expired: check how they are renewed.",
    "InvalidToken": "The session token is not valid: check the credentials (AWS_SESSION_TOKEN).",
    "RequestTimeTooSkewed": "This machine's clock and the server's differ too much: check the time on both.",
    "PermanentRedirect": "The bucket lies in another region or under another endpoint: check [store] region and "
    "endpoint_url.",
    "AuthorizationHeaderMalformed": "The bucket lies in another region: check [store] region.",
    "SlowDown": "The server asks for fewer requests.",
}


def code_of(err: ClientError) -> str:
    """Return the error code of an answer."""
    return str(err.response.get("Error", {}).get("Code", ""))


def status_of(err: ClientError) -> int:
    """Return the HTTP status of an answer; 0 where there was none."""
    return int(err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_absent(err: BaseException) -> bool:
    """Say whether the answer is that the key or the upload is not there; a missing bucket is something else."""
    return isinstance(err, ClientError) and status_of(err) == HTTPStatus.NOT_FOUND and code_of(err) in _ABSENT


def translated(err: ForeignError, doing: str, place: str) -> OverlayError:
    """Form our error: what was tried, where, why it failed, what to check."""
    match err:
        case ClientError():
            return _answered(err, doing, place)
        case NoCredentialsError() | PartialCredentialsError() | CredentialRetrievalError() | TokenRetrievalError():
            reason = (
                "No complete credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this "
                "process a profile or a role."
            )
        case ProfileNotFound():
            reason = "The profile that AWS_PROFILE names does not exist: check it and the credentials files."
        case ParamValidationError():
            reason = "The call was not even sent: check [store] bucket, prefix and the other S3 settings."
        case RecursionError():
            reason = "The server redirects every request: check [store] endpoint_url (http or https?) and region."
        case SSLError():
            reason = "TLS failed: check the certificate of [store] endpoint_url; AWS_CA_BUNDLE names own authorities."
        case _:
            what = type(err).__name__
            reason = f"No usable answer ({what}): check that the server runs and can be reached from here."
    return StoreUnavailable(f"S3 failed while {doing} ({place}). {reason}")


def _answered(err: ClientError, doing: str, place: str) -> OverlayError:
    code, status = code_of(err)[:_LONGEST_CODE], status_of(err)
    if code in _FULL or status == HTTPStatus.INSUFFICIENT_STORAGE:
        return StoreFull(f"The S3 store is full: {doing} failed ({place}, {code}). Free space or raise the quota.")
    sentence = f"S3 answered {status or 'an error'} {code} while {doing} ({place})."
    check = _CHECK.get(code)
    if check is None and status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        check = _CHECK["AccessDenied"]
    return StoreUnavailable(sentence if check is None else f"{sentence} {check}")
