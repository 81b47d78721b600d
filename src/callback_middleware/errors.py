"""Errors, in three families by who must act.

::

    CallbackError
    ├── ConfigurationError        the developer, at start-up
    │   ├── ExpressionSyntaxError     position, caret and hint
    │   ├── DocumentError             an OpenAPI document that cannot be read
    │   ├── InvalidConfiguration      everything that is wrong, at once
    │   ├── NotMounted                no middleware owns this request
    │   └── TransactionOpen           it should have been committed before the response was complete
    ├── PlanningError             the caller's data, in a request
    │   ├── CallbackNotFound          no such callback on this operation
    │   ├── AmbiguousCallback         several: choose one
    │   ├── PayloadInvalid            the body or a parameter does not fit
    │   ├── EgressRefused             the destination is not allowed
    │   ├── SubscriptionExists        the key is another owner's
    │   └── NobodySubscribed          no subscription has this key
    └── OutboxError               the operator
        ├── OutboxUnavailable         certainly not stored
        ├── OutboxUncertain           perhaps stored: put the same batch again
        ├── BacklogFull               as many wait as may: not stored
        └── DeliveryNotFound          no delivery has this id

A receiver that fails is none of these: it is an :class:`~callback_middleware.outcomes.Outcome`.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "AmbiguousCallback",
    "BacklogFull",
    "CallbackError",
    "CallbackNotFound",
    "ConfigurationError",
    "DeliveryNotFound",
    "DocumentError",
    "EgressRefused",
    "ExpressionSyntaxError",
    "InvalidConfiguration",
    "NobodySubscribed",
    "NotMounted",
    "OutboxError",
    "OutboxUnavailable",
    "OutboxUncertain",
    "PayloadInvalid",
    "PlanningError",
    "SubscriptionExists",
    "TransactionOpen",
]


class CallbackError(Exception):
    """Everything that this library raises on purpose."""


class ConfigurationError(CallbackError):
    """The application is set up wrongly. Its developer must act."""


class ExpressionSyntaxError(ConfigurationError):
    """A runtime expression, template or destination that cannot be compiled.

    The message shows the text, a caret under ``position`` and, where one is known, what was probably meant.

    Attributes:
        expression: The text as written.
        reason: What is wrong, in one phrase.
        position: Index into ``expression``, counted in characters from 0.
        hint: What was probably meant, or None.
    """

    def __init__(self, expression: str, reason: str, position: int, hint: str | None = None) -> None:
        self.expression = expression
        self.reason = reason
        self.position = position
        self.hint = hint
        super().__init__(expression, reason, position, hint)

    def __str__(self) -> str:
        # What is shown must line up with the caret: a tab or an escape would move it.
        shown = "".join(
            character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in self.expression
        )
        lines = [f"{self.reason}, at position {self.position}", f"    {shown}", f"    {' ' * self.position}^"]
        if self.hint is not None:
            lines.append(f"    perhaps: {self.hint}")
        return "\n".join(lines)


class DocumentError(ConfigurationError):
    """An OpenAPI document that cannot be read, or a reference in it that cannot be followed."""


class InvalidConfiguration(ConfigurationError):
    """Everything that is wrong with an application's callbacks, found in one pass.

    Attributes:
        errors: One per mistake, each with where it stands (``POST /invoices/ → invoice_notification``).
    """

    def __init__(self, errors: Sequence[tuple[str, ConfigurationError]]) -> None:
        self.errors = tuple(errors)
        super().__init__(self.errors)

    def __str__(self) -> str:
        count = len(self.errors)
        listed = "\n".join(f"  {where}: {error}" for where, error in self.errors)
        return f"{count} {'error' if count == 1 else 'errors'} in the application's callbacks:\n{listed}"


class NotMounted(ConfigurationError):
    """A handler asked for its callbacks, and no ``CallbackMiddleware`` owns the request."""


class TransactionOpen(ConfigurationError):
    """The transaction that ``commit_with`` put callbacks in was still open when their response was complete."""


class PlanningError(CallbackError):
    """What one request asks for cannot be planned. The caller's data, or the handler's, must change."""


class CallbackNotFound(PlanningError):
    """The operation documents no callback of this name or function; the message lists those it has."""


class AmbiguousCallback(PlanningError):
    """The name or function stands for several callbacks; the message lists them and how to choose."""


class PayloadInvalid(PlanningError):
    """A body or parameter that the callback's own declaration does not allow."""


class EgressRefused(PlanningError):
    """A destination that the :class:`~callback_middleware.egress.EgressPolicy` does not allow.

    Attributes:
        rule: The rule that refused, in one phrase.
        how_to_allow: The configuration that would allow it, as a line of Python.
    """

    def __init__(self, rule: str, how_to_allow: str) -> None:
        self.rule = rule
        self.how_to_allow = how_to_allow
        super().__init__(rule, how_to_allow)

    def __str__(self) -> str:
        return f"{self.rule} (to allow it: {self.how_to_allow})"


class SubscriptionExists(PlanningError):
    """A key that was to be subscribed is another owner's, who keeps it."""


class NobodySubscribed(PlanningError):
    """A key that this owner has not subscribed, or no longer."""


class OutboxError(CallbackError):
    """The outbox cannot do what it was asked. Its operator must act."""


class OutboxUnavailable(OutboxError):
    """The outbox is out of reach: what was being put is certainly not stored."""


class OutboxUncertain(OutboxError):
    """The outbox may or may not have stored what was being put. Put the same batch again: ids make that safe."""


class BacklogFull(OutboxError):
    """As many deliveries wait as the outbox' ``backlog`` allows: this one is certainly not stored.

    Nothing that the caller could change would fit. Its operator may raise the bound that the message names, or see to
    the receiver; later, when fewer wait, the same call may do.
    """


class DeliveryNotFound(OutboxError):
    """No delivery has this id."""
