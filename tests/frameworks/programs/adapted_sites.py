"""Applications of one interface behind the other, by a2wsgi. (That of asgiref fails now and then under any server.)"""

from __future__ import annotations

from a2wsgi import ASGIMiddleware, WSGIMiddleware
from flask import Flask, request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

flask = Flask(__name__)


@flask.post("/upload")
def upload() -> str:
    return str(len(request.get_data()))


@flask.get("/")
def home() -> str:
    return "flask"


async def starlette_home(request: Request) -> Response:
    return PlainTextResponse("starlette")


async def starlette_upload(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


starlette = Starlette(
    routes=[Route("/", starlette_home), Route("/upload", starlette_upload, methods=["POST"])]
)

starlette_as_wsgi = ASGIMiddleware(starlette)
flask_as_asgi = WSGIMiddleware(flask)
