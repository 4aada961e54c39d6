"""Every error of the library, as one tree under one root; a test holds the drawing to the classes.

::

    RecourseError
        AskError
        BadSagaIdError
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
        FullError
        GoneError
        InvalidItemError
        IssuerError
        KeyReusedError
        LostLaneError
        LostLeaseError
        NeverFedError
        NothingToResolveError
        PivotSkippedError
        PoisonError
            UnreadableError
        ProblemError
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
        StuckError
        TooManyWebhooksError
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

An error is caught by the branch that somebody takes: `except Refusal` where the business said no,
`except TransientError` where another try may work, `except RecourseError` for all of them. Those
that many rooms raise are here; the others stand beside what raises them.
"""

from __future__ import annotations


class RecourseError(Exception):
    """The root: whatever the library raises of its own."""


class DeclarationError(RecourseError, ValueError):
    """A saga that could not keep its guarantees; the message names the step and says why."""


class Refusal(RecourseError):
    """The business says no (no seat left, card declined): no effect, and no point in a retry.

    Subclass it for each reason that somebody acts on; the class name is what every surface shows.
    """


class TransientError(RecourseError):
    """It did not work now and may work later: a conflict, a throttle, a provider that is down."""


class StepTimedOutError(TransientError):
    """The step gave no answer in its time; it may or may not have acted."""


class StepCrashedError(TransientError):
    """The step's process ended without an answer; it may or may not have acted."""


class ContentionError(TransientError):
    """Others were in the way, or the table was throttled, for as long as it was tried."""


class StepCancelledError(RecourseError):
    """The step was undone or cancelled before it acted, and never will act."""


class PoisonError(RecourseError, ValueError):
    """A message that no further try can do better with: it is dead-lettered with this as reason."""


class UnreadableError(PoisonError):
    """A message that is not an event of a saga."""


class ResultTooLargeError(RecourseError):
    """What a step returned or writes is more than its share; nothing of it was committed."""
