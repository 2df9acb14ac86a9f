"""A site of Django in one file, with its admin, a model, sessions and consumers of Channels: ``wsgi`` and ``asgi``."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path.cwd() / "site.sqlite"}},
    DEBUG=False,
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    FILE_UPLOAD_MAX_MEMORY_SIZE=1 << 20,
    DATA_UPLOAD_MAX_MEMORY_SIZE=64 << 20,
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.gzip.GZipMiddleware",
        "django_site.timing",
    ],
    ROOT_URLCONF="django_site",
    SECRET_KEY="secret",
    SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    USE_TZ=True,
)
django.setup()

from asgiref.sync import sync_to_async
from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncJsonWebsocketConsumer, WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.contrib import admin
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.core.signals import request_finished
from django.core.wsgi import get_wsgi_application
from django.db import connection, models
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path, re_path
from django.utils.decorators import sync_and_async_middleware
from django.views.decorators.csrf import csrf_exempt

diary: list[str] = []
threads: set[int] = set()


class Note(models.Model):
    """A note."""

    text = models.TextField()

    class Meta:
        app_label = "django_site"


def finished(**_: Any) -> None:
    """Django frees its connections with the database then."""
    diary.append("request finished")


request_finished.connect(finished, weak=False)


@sync_and_async_middleware
def timing(get_response: Any) -> Any:
    """A middleware of both kinds."""
    if asyncio.iscoroutinefunction(get_response):

        async def measure_async(request: HttpRequest) -> Any:
            response = await get_response(request)
            response["x-timing"] = "async"
            return response

        return measure_async

    def measure(request: HttpRequest) -> Any:
        response = get_response(request)
        response["x-timing"] = "sync"
        return response

    return measure


# ---- views -----------------------------------------------------------------------------------------------------------


def read_diary(request: HttpRequest) -> HttpResponse:
    return JsonResponse(diary, safe=False)


@csrf_exempt
def notes(request: HttpRequest) -> HttpResponse:
    """The ORM in a plain view."""
    threads.add(threading.get_ident())
    if request.method == "POST":
        Note.objects.create(text=request.POST["text"])
    return JsonResponse({"notes": list(Note.objects.values_list("text", flat=True)), "threads": len(threads)})


@csrf_exempt
async def notes_async(request: HttpRequest) -> HttpResponse:
    """The ORM in a coroutine, which Django runs in a thread."""
    if request.method == "POST":
        await Note.objects.acreate(text=request.POST["text"])
    count = await sync_to_async(Note.objects.count)()
    return JsonResponse({"notes": [note.text async for note in Note.objects.all()], "count": count})


@csrf_exempt
def upload(request: HttpRequest) -> HttpResponse:
    if request.FILES:
        file = request.FILES["file"]
        return JsonResponse({"name": file.name, "size": sum(map(len, file.chunks()))})
    return JsonResponse({"length": request.META.get("CONTENT_LENGTH"), "size": len(request.body)})


def about(request: HttpRequest) -> HttpResponse:
    return JsonResponse(
        {
            "path": request.path,
            "info": request.path_info,
            "query": request.GET.dict(),
            "address": request.META["REMOTE_ADDR"],
            "secure": request.is_secure(),
            "url": request.build_absolute_uri(),
            "header": request.headers.get("X-Test"),
        }
    )


def visits(request: HttpRequest) -> HttpResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(str(request.session["visits"]))


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def generate() -> Iterator[bytes]:
        try:
            for number in range(3):
                yield f"line {number}\n".encode()
        finally:
            diary.append("stream closed")

    return StreamingHttpResponse(generate(), content_type="text/plain")


def endless(request: HttpRequest) -> StreamingHttpResponse:
    def generate() -> Iterator[bytes]:
        try:
            while True:
                yield b"more\n" * 2000
                time.sleep(0.01)
        finally:
            diary.append("endless closed")

    return StreamingHttpResponse(generate(), content_type="text/plain")


async def stream_async(request: HttpRequest) -> StreamingHttpResponse:
    async def generate() -> AsyncIterator[bytes]:
        try:
            yield b"data: first\n\n"
            await asyncio.sleep(60)
        finally:
            diary.append("async stream closed")

    return StreamingHttpResponse(generate(), content_type="text/event-stream")


async def slow(request: HttpRequest) -> HttpResponse:
    """Django cancels a view whose client has left."""
    diary.append("slow begun")
    try:
        await asyncio.sleep(60)
    finally:
        diary.append("slow ended")
    return HttpResponse("slow")


def file(request: HttpRequest) -> FileResponse:
    opened = Path(__file__).open("rb")
    if "offset" in request.GET:
        opened.seek(int(request.GET["offset"]))
    response = FileResponse(opened, as_attachment=True, filename="site.py")
    response["x-wrapped"] = "yes" if response.file_to_stream is not None else "no"
    return response


def fails(request: HttpRequest) -> HttpResponse:
    raise LookupError("a fault of the view")


def in_transaction(request: HttpRequest) -> HttpResponse:
    from django.db import transaction

    with transaction.atomic():
        Note.objects.create(text="never seen")
        transaction.set_rollback(True)
    return JsonResponse({"seen": Note.objects.filter(text="never seen").count()})


def redirect(request: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect("/about")


urlpatterns = [
    path("admin/", admin.site.urls),
    path("diary", read_diary),
    path("notes", notes),
    path("notes-async", notes_async),
    path("upload", upload),
    re_path("^about", about),
    path("visits", visits),
    path("stream", stream),
    path("endless", endless),
    path("stream-async", stream_async),
    path("slow", slow),
    path("file", file),
    path("fails", fails),
    path("transaction", in_transaction),
    path("redirect", redirect),
]


# ---- consumers -------------------------------------------------------------------------------------------------------


class Room(AsyncJsonWebsocketConsumer):
    """All members hear what one says."""

    async def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()

    async def receive_json(self, content: Any, **_: Any) -> None:
        await self.channel_layer.group_send(self.room, {"type": "said", "text": content["text"]})

    async def said(self, event: dict[str, Any]) -> None:
        await self.send_json({"room": self.room, "text": event["text"]})

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.room, self.channel_name)
        diary.append(f"left with {code}")


class Counter(WebsocketConsumer):
    """A plain consumer, which Channels runs in a thread, with the ORM."""

    def connect(self) -> None:
        if self.scope["query_string"] == b"refuse":
            self.close()
        else:
            self.accept("count" if "count" in self.scope["subprotocols"] else None)

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "end":
            self.close(4003)
        else:
            self.send(text_data=json.dumps({"notes": Note.objects.count(), "text": text_data}))


if "NOT_PREPARED" not in os.environ:
    call_command("migrate", verbosity=0)
    with connection.schema_editor() as editor:
        if Note._meta.db_table not in connection.introspection.table_names():
            editor.create_model(Note)
    connection.close()

wsgi = get_wsgi_application()
django_asgi = get_asgi_application()
asgi = ProtocolTypeRouter(
    {
        "http": django_asgi,
        "websocket": AuthMiddlewareStack(
            URLRouter([path("rooms/<room>", Room.as_asgi()), path("counter", Counter.as_asgi())])
        ),
    }
)
