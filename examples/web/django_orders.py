"""Orders, one list for each owner, with Django, in one file instead of a project.

`gunicorn --threads 8 django_orders:wsgi`, or `uvicorn django_orders:asgi`.
"""

import json
import os
from collections import defaultdict
from pathlib import Path

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from authsvc.client import AuthClient, AuthenticatedAsgi, AuthenticatedWsgi, BlockingAuthClient, current

orders: defaultdict[str, list[str]] = defaultdict(list)


def health(request: HttpRequest) -> HttpResponse:
    """Answer anybody."""
    return JsonResponse({"answer": "ok"})


def orders_of_the_caller(request: HttpRequest) -> HttpResponse:
    """Return the caller's orders, or place one."""
    if request.method == "POST":
        orders[current().owner_id].append(str(json.loads(request.body)["order"]))
        return JsonResponse({"answer": "placed"}, status=201)
    return JsonResponse({"orders": orders[current().owner_id]})


urlpatterns = [path("health", health), path("orders", orders_of_the_caller)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"])

# Requests that are not listed here or in PUBLIC are refused.
SCOPES = {"GET /orders": "orders:read", "POST /orders": "orders:write"}
PUBLIC = ["GET /health"]
ADDRESS = os.environ.get("AUTHSVC_ADDRESS", "127.0.0.1:50051")
KEY = Path(os.environ.get("ORDERS_KEY_FILE", "orders.key"))

# A project has one of them, in its wsgi.py or asgi.py. Plain text, since both run on this machine.
wsgi = AuthenticatedWsgi(
    get_wsgi_application(), BlockingAuthClient(ADDRESS, key=KEY, tls=None), scopes=SCOPES, public=PUBLIC
)
asgi = AuthenticatedAsgi(
    get_asgi_application(), AuthClient(ADDRESS, key=KEY, tls=None), scopes=SCOPES, public=PUBLIC
)
