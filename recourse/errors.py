"""Every error of the library, as one tree under one root; a test holds the drawing to the classes.

::

    RecourseError
        ApiError
            StoppedShortError
            UnreachableError
        AskError
        BacklogFullError
        BadFileError
        BadLineError
        BadSagaIdError
        BadSubjectError
        ConflictError
            ConditionFailedError
        CursorError
            BadCursorError
            ExpiredCursorError
            ForeignCursorError
        DeclarationError
        ErasedError
        FailedError
        ForbiddenAddressError
        ForbiddenError
        ForgedError
        GoneError
        GrantError
        ImportReusedError
        InvalidEventError
        InvalidItemError
        InvalidRequestError
        IssuerError
        KeyReusedError
        LocalCloudError
            DeployError
            EmulatorError
        LoginError
            InvalidGrantError
            IssuerUnreachableError
        LostLaneError
        LostLeaseError
        MalformedError
        MessagesWaitError
        MissingSettingError
        NewError
        NoReverseError
        NotAtRestError
        NotResumableError
        NotReversibleError
        NotSucceededError
        NothingToResolveError
        OAuthError
        PivotSkippedError
        PlacesError
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
            NoAnswerError
            RejectedError
        RefusedError
        ResultTooLargeError
        SagaChangedError
        SeedError
        SettingError
        ShapeError
        StepCancelledError
        StoppedError
        StuckError
        TokenError
        TooManyFailuresError
        TooManyWebhooksError
        ToolError
        TransientError
            ContentionError
            NoVersionError
            StepCrashedError
            StepTimedOutError
        UnansweredError
        UnauthorizedError
        UndeclaredTableError
        UnknownFaultError
        UnknownImportError
        UnknownNameError
        UnknownSagaError
        UnknownShapeError
        UnknownWebhookError
        UnmadeError
        UnreadableParameterError
        UnreadableSecretError
        UnresolvedError
        UnwritableError
        UsageError
        WaitingError

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
    """The root of all errors that the library itself raises.

    ::

        try:
            event = Event.parse(text)
        except RecourseError as problem:
            print(type(problem).__name__, problem)
    """


class DeclarationError(RecourseError, ValueError):
    """A declaration that could not keep its guarantees; the message names the part and says why.

    ::

        try:
            Saga("one-way", request=TripRequest, business_key="trip_id", steps=[])
        except DeclarationError as problem:
            print(problem)  # saga 'one-way' has 0 pivots []: exactly one step decides it, …
    """


class Refusal(RecourseError):
    """The business says no (no seat left, card declined): nothing happened, and no retry helps.

    Subclass it for each reason that callers act on; API, events and console show the class's name::

        class SlotTakenError(Refusal): ...

        @action(refuses=[SlotTakenError], reads=lambda call: ["slot#s-1"])
        def hold(call: Call) -> Decision:
            if call.item is None:
                raise SlotTakenError("slot s-1 is taken")
            return Decision(writes=[Update("slot#s-1", put={"taken_by": call.saga_id})])
    """


class TransientError(RecourseError):
    """It failed now and may succeed later: a conflict, a throttle, a provider that is down.

    Raise it, or a class made from it, and the step is tried again::

        def ask_the_provider(call: Call) -> bytes:
            try:
                return requested(timeout=call.remaining())
            except OSError as problem:
                raise TransientError(f"the provider did not answer: {problem}") from problem
    """


class StepTimedOutError(TransientError):
    """The step did not return within its timeout; it may or may not have acted."""


class StepCrashedError(TransientError):
    """The step's process ended without a result; it may or may not have acted."""


class ContentionError(TransientError):
    """Conflicting writes or throttles lasted for as long as it was retried.

    ::

        try:
            inbox.once(event.id, count)
        except ContentionError:
            print("the table is busy: nothing was written, the message comes again")
            raise
    """


class NoVersionError(TransientError):
    """A saga's machine has no version for its shape: it was deleted, or never deployed."""


class StepCancelledError(RecourseError):
    """The step was undone or cancelled before it acted, and will never act."""


class NoAnswerError(Refusal):
    """Nobody has decided the step's question in time: the saga is undone."""


class WaitingError(RecourseError):
    """The step has asked somebody, and its saga rests until that is decided.

    A state machine catches it by this name, and ends its run; the decision starts the next one.
    """


class PoisonError(RecourseError, ValueError):
    """A message that no retry can process: it is dead-lettered with this as the reason.

    ::

        def handle(message: Message) -> None:
            if not message.body.startswith("{"):
                raise PoisonError(f"the body must be JSON, got {message.body[:20]!r}")
    """


class UnreadableError(PoisonError):
    """A message that is not an event of a saga."""


class ResultTooLargeError(RecourseError):
    """A step's result or writes are larger than its share; nothing of them was committed."""
