"""From a delivery, which is only data, to what its callback declares of its receiver's answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from callback_middleware.delivery import Delivery
from callback_middleware.operations import Operation, compile_callback
from callback_middleware.options import DeliveryOptions
from callback_middleware.responses import AnswerCheck, Responses
from callback_middleware.retry import RetryPolicy
from callback_middleware.staging import DeclaredAnswers

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def callback(name: str, method: str, answers: AnswerCheck | None, expression: str = "{$request.query.url}") -> object:
    return compile_callback(name=name, method=method, expression=expression, options=DeliveryOptions(), answers=answers)


def operation(path: str, *callbacks: object) -> Operation:
    return Operation("POST", path, callbacks)  # type: ignore[arg-type]


def delivery(operation: str = "POST /a", callback: str = "paid", method: str = "POST") -> Delivery:
    return Delivery(
        id=UUID(int=1),
        operation=operation,
        callback=callback,
        method=method,
        url="https://receiver.example/",
        origin="https://receiver.example:443",
        created_at=NOW,
        due_at=NOW,
        retry=RetryPolicy(),
        deadline=timedelta(seconds=15),
    )


ONE, TWO, THREE = (Responses({status: ()}) for status in ("200", "201", "202"))


def test_a_delivery_is_of_its_operation_its_callback_and_its_method() -> None:
    operations = [
        operation("/a", callback("paid", "POST", ONE), callback("paid", "PUT", TWO), callback("sent", "POST", None)),
        operation("/b", callback("paid", "POST", THREE)),
    ]
    answers = DeclaredAnswers(lambda: operations)
    assert answers(delivery()) is ONE
    assert answers(delivery(method="PUT")) is TWO
    assert answers(delivery("POST /b")) is THREE
    assert answers(delivery(callback="sent")) is None


def test_where_nothing_is_known_nothing_is_checked() -> None:
    answers = DeclaredAnswers(lambda: [operation("/a", callback("paid", "POST", ONE))])
    assert answers(delivery("POST /renamed")) is None
    assert answers(delivery(callback="renamed")) is None
    assert answers(delivery(method="PATCH")) is None


def test_what_fits_one_of_several_expressions_fits() -> None:
    elsewhere = "{$request.query.other}"
    operations = [
        operation("/a", callback("paid", "POST", ONE), callback("paid", "POST", TWO, elsewhere)),
        operation("/b", callback("paid", "POST", ONE), callback("paid", "POST", None, elsewhere)),
    ]
    answers = DeclaredAnswers(lambda: operations)
    check = answers(delivery())
    assert check is not None
    assert check(200, None, b"") is None
    assert check(201, None, b"") is None
    assert check(202, None, b"") == "answered 202; declared: 200"
    assert answers(delivery("POST /b")) is None, "one of them takes anything"


def test_operations_are_looked_through_once_and_again_for_what_was_not_there() -> None:
    operations: list[Operation] = []
    asked: list[int] = []

    def known() -> list[Operation]:
        asked.append(len(operations))
        return operations

    answers = DeclaredAnswers(known)
    assert answers(delivery()) is None
    operations.append(operation("/a", callback("paid", "POST", ONE), callback("sent", "POST", None)))
    for _ in range(2):
        assert answers(delivery()) is ONE
        assert answers(delivery(callback="sent")) is None
    assert asked == [0, 1, 1]
