"""Django in one file. Its ASGI handler refuses the lifespan protocol."""

import json
import logging

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from document import DOCUMENT, EVENT, statement

from callback_middleware import CallbackMiddleware, EgressPolicy
from callback_middleware.staging import callbacks_of

logging.basicConfig(level=logging.INFO)

settings.configure(ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, SECRET_KEY="for tests")  # noqa: S106 - there is none to keep
django.setup()


@csrf_exempt
def create_invoice(request):
    if json.loads(request.body)["total"] < 0:
        return HttpResponse("an invoice is no gift", status=402)
    return JsonResponse({"msg": "Invoice received"})


@csrf_exempt
async def create_statement(request):
    callbacks_of(request.scope).send("statementEvent", EVENT)
    invoice = json.loads(request.body)
    if invoice["total"] < 0:
        return HttpResponse("an invoice is no gift", status=402)

    async def lines():
        for line in statement(invoice):
            yield line

    return StreamingHttpResponse(lines(), content_type="text/plain")


urlpatterns = [path("invoices/", create_invoice), path("statements/", create_statement)]

app = CallbackMiddleware(get_asgi_application(), openapi=DOCUMENT, egress=EgressPolicy.development())
