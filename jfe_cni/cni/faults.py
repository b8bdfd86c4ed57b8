"""What a runtime is answered where something can't be: codes and sentences of the CNI specification."""

from __future__ import annotations

from typing import Any

from jfe_cni.errors import (
    ConflictError,
    HostError,
    IdentityError,
    JfeError,
    NamespaceGone,
    RequestError,
)

# CNI SPEC 1.1, section 5, "Error": the well-known codes.
INCOMPATIBLE_VERSION = 1
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
UNDECODABLE = 6
INVALID_CONFIGURATION = 7
TRY_AGAIN_LATER = 11
# CNI SPEC 1.1, STATUS: ADD can't be served; and containers that run already may be cut off as well.
UNAVAILABLE = 50
UNAVAILABLE_AND_LIMITED = 51
# "Error codes 100+ may be used for plugin-specific errors."
CONFLICT = 100
UNFIT_HOST = 101
NOT_COVERED = 102
COLLECTION_FAILED = 103


class CniError(JfeError):
    """An answer to a runtime. `message` is its `msg`, `remedy` its `details`."""

    def __init__(self, code: int, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.code = code

    def as_json(self, version: str) -> dict[str, Any]:
        return {"cniVersion": version, "code": self.code, "msg": self.message, "details": self.remedy}


def answer_to(error: JfeError) -> CniError:
    """The same fault as a runtime knows it: whose it is, and whether the same call may succeed later."""
    if isinstance(error, CniError):
        return error
    return CniError(_code(error), error.message, error.remedy)


def _code(error: JfeError) -> int:
    match error:
        case NamespaceGone():
            return UNKNOWN_CONTAINER
        case ConflictError():
            return TRY_AGAIN_LATER if error.temporary else CONFLICT
        case RequestError():
            return INVALID_CONFIGURATION
        case HostError():
            return UNFIT_HOST
        case IdentityError():
            # The authority may be away or not there yet; the node's other pods, and it among them, come first.
            return TRY_AGAIN_LATER
        case _:
            return TRY_AGAIN_LATER if error.temporary else UNFIT_HOST
