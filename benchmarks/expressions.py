"""What it costs to turn an expression into a URL, beside the evaluator of Schemathesis.

Both are given the same expression, and a request whose query and body are parsed already. Schemathesis joins the
values as they are; a destination also reads the base URL, encodes what it fills in and joins the components. Its
parser keeps what it parsed in a cache of 128 expressions, so there are two rows for it: as it comes, and parsing
at every evaluation. Prints medians of interleaved runs, and how many times as fast a destination is.
"""

from __future__ import annotations

import importlib
import statistics
import timeit
from collections.abc import Callable, Mapping
from typing import Any, Final

from callback_middleware.destinations import Destination, parse_destination
from callback_middleware.exchange import Exchange
from callback_middleware.expressions import parse

EXPRESSION: Final = "{$request.query.callback_url}/invoices/{$request.body#/id}"
CALLBACK_URL: Final = "https://www.external.org/events"
EXPECTED: Final = "https://www.external.org/events/invoices/2expen51ve"
RUNS: Final = 7
CALLS: Final = 20_000

DESTINATION: Final = "a destination, compiled"


def exchange() -> Exchange:
    """The request, raw."""
    return Exchange.build(
        url=f"https://api.example/invoices/?callback_url={CALLBACK_URL}",
        headers={"content-type": "application/json"},
        body=b'{"id": "2expen51ve"}',
    )


def check(result: object) -> None:
    """Nothing is measured that does not do the work."""
    if result != EXPECTED:
        raise SystemExit(f"{result!r} instead of {EXPECTED!r}")


def ours() -> Mapping[str, Callable[[], object]]:
    """What this library does, by its name in the table."""
    template = parse_destination(EXPRESSION)
    expression = parse(EXPRESSION)
    parsed = exchange()
    resolved = template.resolve(parsed)
    check(resolved.url if isinstance(resolved, Destination) else resolved)
    check(expression.evaluate(parsed))
    return {
        DESTINATION: lambda: template.resolve(parsed),
        "the same, from raw bytes": lambda: template.resolve(exchange()),
        "an expression, compiled": lambda: expression.evaluate(parsed),
    }


def theirs() -> Mapping[str, Callable[[], object]]:
    """What Schemathesis does, by its name in the table."""
    # By name, because nothing but this table needs it installed.
    schemathesis: Any = importlib.import_module("schemathesis")
    state_machine: Any = importlib.import_module("schemathesis.generation.stateful.state_machine")
    expressions: Any = importlib.import_module("schemathesis.specs.openapi.expressions")
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Invoices", "version": "1"},
        "paths": {"/invoices/": {"post": {"responses": {"201": {"description": "Created"}}}}},
    }
    operation = schemathesis.openapi.from_dict(document)["/invoices/"]["POST"]
    case = operation.Case(
        query={"callback_url": CALLBACK_URL}, body={"id": "2expen51ve"}, media_type="application/json"
    )
    # The expression asks nothing of the response.
    output = state_machine.StepOutput(response=None, case=case)
    check(expressions.evaluate(EXPRESSION, output))

    def parsing() -> object:
        expressions.parser.parse.cache_clear()
        return expressions.evaluate(EXPRESSION, output)

    return {
        "Schemathesis, parsing": parsing,
        "Schemathesis, parsed before": lambda: expressions.evaluate(EXPRESSION, output),
    }


def measure(subjects: Mapping[str, Callable[[], object]]) -> Mapping[str, float]:
    """Median microseconds a call; the runs of all subjects are interleaved."""
    runs: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(RUNS):
        for name, subject in subjects.items():
            runs[name].append(timeit.timeit(subject, number=CALLS) / CALLS * 1e6)
    return {name: statistics.median(times) for name, times in runs.items()}


def main() -> None:
    """Print the table."""
    medians = measure({**ours(), **theirs()})
    print(f"{EXPRESSION}\nmedians of {RUNS} interleaved runs of {CALLS} evaluations\n")
    print(f"{'':30}{'µs':>8}{'a destination is':>27}")
    for name, median in medians.items():
        print(f"{name:30}{median:8.2f}{median / medians[DESTINATION]:13.1f} times as fast")


if __name__ == "__main__":
    main()
