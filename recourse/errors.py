"""Every error of the library, as one tree under one root; a test holds the drawing to the classes.

::

    RecourseError
        ApiError
        AskError
        BacklogFullError
        BadSagaIdError
        BadSubjectError
        ConflictError
            ConditionFailedError
        CursorError
            BadCursorError
            ExpiredCursorError
            ForeignCursorError
        DeclarationError
        ForbiddenAddressError
        ForbiddenError
        ForgedError
        GoneError
        InvalidEventError
        InvalidItemError
        IssuerError
        KeyReusedError
        LocalCloudError
            DeployError
            EmulatorError
        LostLaneError
        LostLeaseError
        MalformedError
        MissingSettingError
        NothingToResolveError
        PivotSkippedError
        PoisonError
            UnreadableError
        ProblemError
            LimitReachedError
            ValetError
                BadNameError
                BadTokenError
                BearerOnLinkError
                ExpiredKeyError
                NotAnUploadError
                NothingUploadedError
                OutOfScopeError
                RevokedKeyError
                TooLargeError
                TooOftenError
                UnknownKeyError
                UnknownObjectError
                UnknownTypeError
                UsedUpKeyError
                WrongHashError
                WrongLengthError
                WrongPartError
                WrongTypeError
        ProjectError
        PublishError
        QueueUnavailableError
        RecoveryFailedError
        Refusal
            CurrencyMismatchError
            RejectedError
        RefusedError
        ResultTooLargeError
        SettingError
        StepCancelledError
        StoppedError
        StuckError
        TokenError
        TooManyWebhooksError
        ToolError
        TransientError
            ContentionError
            StepCrashedError
            StepTimedOutError
        UnauthorizedError
        UndeclaredTableError
        UnknownFaultError
        UnknownSagaError
        UnknownWebhookError
        UnmadeError
        UnresolvedError
        UsageError

Catch the class whose branch you take: `Refusal` where the business said no, `TransientError` where
a retry may succeed, `RecourseError` for all of them::

    try:
        hold(call)
    except SeatUnavailableError:  # a Refusal
        return offer_another()

Errors that several packages raise are here; the others are beside the code that raises them.
"""

from __future__ import annotations


class RecourseError(Exception):
    """The root of all errors that the library itself raises."""


class DeclarationError(RecourseError, ValueError):
    """A declaration that could not keep its guarantees; the message names the part and says why."""


class Refusal(RecourseError):
    """The business says no (no seat left, card declined): nothing happened, and no retry helps.

    Subclass it for each reason that callers act on; API, events and console show the class's name.
    """


class TransientError(RecourseError):
    """It failed now and may succeed later: a conflict, a throttle, a provider that is down."""


class StepTimedOutError(TransientError):
    """The step did not return within its timeout; it may or may not have acted."""


class StepCrashedError(TransientError):
    """The step's process ended without a result; it may or may not have acted."""


class ContentionError(TransientError):
    """Conflicting writes or throttles lasted for as long as it was retried."""


class StepCancelledError(RecourseError):
    """The step was undone or cancelled before it acted, and will never act."""


class PoisonError(RecourseError, ValueError):
    """A message that no retry can process: it is dead-lettered with this as the reason."""


class UnreadableError(PoisonError):
    """A message that is not an event of a saga."""


class ResultTooLargeError(RecourseError):
    """A step's result or writes are larger than its share; nothing of them was committed."""
