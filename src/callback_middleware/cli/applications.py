"""From ``module:attribute`` to an application and its middleware: it is imported, and nothing of it run."""

from __future__ import annotations

import importlib
import inspect
import sys
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from callback_middleware.cli.refusals import Refused
from callback_middleware.errors import ConfigurationError
from callback_middleware.middleware import CallbackMiddleware
from callback_middleware.mounted import find_middleware


def application(target: str, *, factory: bool) -> tuple[object, CallbackMiddleware]:
    """An application, and the middleware that owns its requests.

    Args:
        target: ``module:attribute``; the attribute may be a path (``service:api.app``). The current folder is
            importable.
        factory: Whether the attribute is a function that makes the application.

    Raises:
        Refused: There is no such thing, or no middleware on it. What the application's own code raises comes as it is.
    """
    app = _load(target, factory=factory)
    try:
        return app, find_middleware(app)
    except ConfigurationError as error:
        if inspect.isfunction(app) and not factory:
            raise Refused(f"{target} is a function: if it makes the application, add --factory") from None
        raise Refused(f"{target}: {error}") from None


def _load(target: str, *, factory: bool) -> object:
    module, _, path = target.partition(":")
    names = path.split(".")
    if not all(name.isidentifier() for name in (*module.split("."), *names)):
        raise Refused(f"APP is {target!r}, and must be module:attribute, as in invoices:app")
    found: object = _import(module)
    for index, name in enumerate(names):
        try:
            found = getattr(found, name)
        except AttributeError:
            where = ".".join([module, *names[:index]])
            close = get_close_matches(name, dir(found), n=1)
            hint = f": perhaps {close[0]!r}?" if close else ": which attribute is the application?"
            raise Refused(f"{where} has no attribute {name!r}{hint}") from None
    return _made_by(found, target) if factory else found


def _import(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Where a module that is there asks for one that is not, only the traceback tells which.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        meant = f"; APP has a module's name, and not a file's: {name.removesuffix('.py')}:…"
        raise Refused(
            f"there is no module {name!r} in {here}, nor anywhere else that Python looks (PYTHONPATH)"
            f"{meant if name.endswith('.py') else ''}"
        ) from None


def _made_by(factory: object, target: str) -> object:
    if not callable(factory) or inspect.iscoroutinefunction(factory):
        raise Refused(f"--factory: {target} is no function that returns an application")
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise Refused(f"--factory: {target} is called without arguments ({error})") from None
    return factory()
