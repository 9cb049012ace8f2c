"""Explains the errors of boto3: which may pass, what went wrong, and what the user can do."""

from botocore import exceptions
from botocore.parsers import ResponseParserError

S3_ERRORS = (exceptions.ClientError, exceptions.BotoCoreError, ResponseParserError)
"""All errors that a request to the server can raise."""
_PASSING = (
    exceptions.ConnectionError,
    exceptions.HTTPClientError,
    exceptions.IncompleteReadError,
    exceptions.FlexibleChecksumError,
)
"""Errors that may pass: the server was not reached, did not answer in time, or its answer was
damaged on the way."""
_PASSING_CODES = {"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException"}
"""Error codes of answers that may pass."""
_PASSING_STATUSES = {409, 412, 429, 500, 502, 503, 504}
"""HTTP statuses of answers that may pass. 409 and 412 say that a conditional write met another
write."""
_NO_CREDENTIALS = (
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.CredentialRetrievalError,
)
_GIVE_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run where there is an "
    "instance role"
)
_SET_REGION = "set AWS_DEFAULT_REGION to the region of the bucket"
_LOG_IN = "log in again: the credentials are no longer valid"
_REMEDIES = {
    "AccessDenied": "allow these credentials s3:GetObject, s3:PutObject, s3:DeleteObject and "
    "s3:ListBucket there",
    "AuthorizationHeaderMalformed": _SET_REGION,
    "ExpiredToken": _LOG_IN,
    "ExpiredTokenException": _LOG_IN,
    "InvalidAccessKeyId": "check AWS_ACCESS_KEY_ID or the profile",
    "InvalidToken": _LOG_IN,
    "NoSuchBucket": "make the bucket, or correct the name of the store and the endpoint",
    "NotImplemented": "use a store that honours conditional writes",
    "PermanentRedirect": _SET_REGION,
    "RequestTimeTooSkewed": "set the clock of this machine right: it is minutes off",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY or the profile",
    "SlowDown": "wait, or use fewer workers",
}
"""The advice for each error code of the server."""


def error_code(error: BaseException) -> str:
    """The server's error code, such as NoSuchKey. It is empty if the error is no answer of the
    server."""
    if isinstance(error, exceptions.ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return ""


def http_status(error: BaseException) -> int:
    """The HTTP status of the server's answer. It is 0 if the error is no answer of the server."""
    if isinstance(error, exceptions.ClientError):
        return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return 0


def may_pass(error: BaseException) -> bool:
    """True if the same request may succeed later."""
    if isinstance(error, exceptions.SSLError):
        return False  # a wrong certificate stays wrong
    if isinstance(error, _PASSING) or error_code(error) in _PASSING_CODES:
        return True
    return http_status(error) in _PASSING_STATUSES


def explained(error: Exception, server: str) -> str:
    """Says in one line what went wrong and what to do. It repeats no URL of a request.

    server  the name of the server in the message
    """
    if isinstance(error, exceptions.ClientError):
        code = error_code(error) or "an error"
        said = " ".join(str(error.response.get("Error", {}).get("Message", "")).split())
        remedy = _REMEDIES.get(code, "check the endpoint, the bucket and the credentials")
        return f"{server} answered {code} to {error.operation_name} ({said[:200]}); {remedy}"
    if isinstance(error, exceptions.SSLError):
        return f"no secure connection to {server}; check its certificate, or set AWS_CA_BUNDLE"
    if isinstance(error, _PASSING):
        name = type(error).__name__
        return f"{server} does not answer ({name}); check the endpoint, or wait until it is back"
    if isinstance(error, _NO_CREDENTIALS):
        return f"there are no credentials ({type(error).__name__}); {_GIVE_CREDENTIALS}"
    if isinstance(error, ResponseParserError):
        return f"{server} does not answer as S3 does; check the endpoint"
    said = " ".join(str(error).split())
    return f"{said[:200]}; check the AWS settings in the environment and the profile"
