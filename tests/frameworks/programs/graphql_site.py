"""GraphQL with Strawberry: queries by HTTP, subscriptions by WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import strawberry
from fastapi import FastAPI
from strawberry.fastapi import GraphQLRouter

diary: list[str] = []


@strawberry.type
class Query:
    @strawberry.field
    def hello(self, name: str = "you") -> str:
        return f"hello {name}"


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, target: int) -> AsyncGenerator[int, None]:
        try:
            for number in range(target):
                yield number
            if target == 0:
                await asyncio.sleep(60)
        finally:
            diary.append("subscription over")


app = FastAPI()
app.include_router(GraphQLRouter(strawberry.Schema(Query, subscription=Subscription)), prefix="/graphql")


@app.get("/diary")
async def read_diary() -> list[str]:
    return diary
