"""What a FastAPI callback's route declares of its receiver's answer, as FastAPI documents it."""

from __future__ import annotations

from typing import Any, Final

from callback_middleware.responses import Content, Responses
from callback_middleware.sources.declared_responses import documented_contents, json_content, responses
from callback_middleware.sources.documented_callbacks import Dialect
from callback_middleware.sources.encoding import JSON
from callback_middleware.sources.references import Place
from callback_middleware.sources.typed_answers import answer_check

_USUAL: Final = 200


def route_responses(view: Any, dialect: Dialect) -> Responses:
    """What ``status_code``, ``response_model``, ``response_class``, ``responses`` and ``openapi_extra`` say together.

    A status that several of them describe has the contents of all of them.

    Args:
        view: The callback's route, or what has its effective attributes.
        dialect: Of the application's own document, for what is written in OpenAPI's words.

    Raises:
        ConfigurationError: A model that Pydantic does not know, or a schema that is none.
    """
    # FastAPI wraps a class that nobody chose.
    response_class = getattr(view.response_class, "value", view.response_class)
    media_type = response_class.media_type
    contents: dict[str, list[Content]] = {}
    usual = contents.setdefault(str(_USUAL if view.status_code is None else int(view.status_code)), [])
    if media_type is not None:
        usual.append(_modelled(media_type, view.response_model))
    extra = Place(view.openapi_extra, "openapi_extra").child("responses")
    for listed in (Place(view.responses, "responses"), extra):
        for status, response in listed.members():
            found = contents.setdefault(status, [])
            model = response.object().get("model")
            if model is not None:
                found.append(_modelled(media_type or JSON, model))
            found += documented_contents(response, dialect.references, dialect.answer_check)
    return responses(contents)


def _modelled(media_type: str, model: Any) -> Content:
    # A function that returns None says nothing. Older versions of FastAPI take that for a model.
    if model in (None, type(None)) or model is Any:
        return Content(media_type)
    return json_content(media_type, answer_check(model))
