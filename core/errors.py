"""One tree of errors; every sentence says what was wrong, what is allowed and what to do.

Nothing below `server` knows an HTTP status: `server/error_handlers.py` holds the only table.
"""

from __future__ import annotations


class AppError(Exception):
    """The root of every error BindChat raises on purpose.

    `param` names the request field at fault; `code` is the stable machine-readable word.
    """

    code = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code


class InvalidRequest(AppError):
    """The request breaks a documented rule."""

    code = "invalid_request"


class PromptTooLong(InvalidRequest):
    """The prompt and the tokens asked for do not fit the model's context."""

    code = "context_length_exceeded"


class MediaTooLarge(InvalidRequest):
    """A medium or a body is over a size, pixel, length or count budget."""

    code = "media_too_large"


class UnsupportedMedia(InvalidRequest):
    """The container or the modality is not one this model reads."""

    code = "unsupported_media"


class MediaDecodeError(InvalidRequest):
    """The bytes claim a container they are not, or are damaged."""

    code = "media_undecodable"


class MediaFetchError(InvalidRequest):
    """A remote medium is not allowed or could not be fetched."""

    code = "media_fetch_failed"


class Unauthorized(AppError):
    """The API key is missing or wrong."""

    code = "invalid_api_key"


class Forbidden(AppError):
    """The client is known, or need not be, and still may not do this."""

    code = "forbidden"


class UnknownName(AppError):
    """A model, file, index or other named thing does not exist."""

    code = "not_found"


class Overloaded(AppError):
    """The bounded queue is full; come back after `retry_after_s`."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(Overloaded):
    """This client has asked for its share; others are served."""

    code = "rate_limit_exceeded"


class NotReady(AppError):
    """The server is starting or stopping."""

    code = "not_ready"


class DeadlineExceeded(AppError):
    """The request ran out of its wall-clock budget."""

    code = "deadline_exceeded"


class StorageFull(AppError):
    """The disk refused a write; what was stored before is as it was."""

    code = "insufficient_storage"


class EngineFault(AppError):
    """A fault of ours; details are in the log only."""

    code = "engine_fault"


class ConfigError(AppError):
    """The operator's configuration cannot work; raised at start-up only."""

    code = "invalid_configuration"


class CheckpointError(ConfigError):
    """A weights file is missing, damaged, of another family, or has missing or unexpected keys."""

    code = "invalid_checkpoint"


class IndexMismatch(ConfigError):
    """An index was built for another encoder, dimension or metric."""

    code = "index_mismatch"
