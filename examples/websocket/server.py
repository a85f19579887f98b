"""Characters that talk over a WebSocket: every piece of text goes out as soon as it is certain.

    pip install tinyzh websockets
    python server.py [--model FILE] [--port 8765]

A client sends {"character": "rabbit", "say": "你好", "near": 12} and gets {"character", "piece"}
again and again, then {"character", "end"}.  The nearer a player, the sooner its character speaks.
Each connection has its own sessions.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

import tinyzh
from websockets.asyncio.server import ServerConnection, serve

CANNED = "……今天的风真大。"


async def speak(socket: ServerConnection, session: tinyzh.Session, message: dict[str, Any]) -> None:
    """One turn of one character."""
    name = message["character"]
    try:
        line = session.say(
            message.get("say", ""),
            max_new_tokens=60,
            stop=["。"],
            priority=-int(message.get("near", 0)),
            timeout=3.0,
            seed=message.get("seed"),
        )
        async for piece in line:
            await socket.send(json.dumps({"character": name, "piece": piece}, ensure_ascii=False))
        end = line.finish_reason
    except tinyzh.QueueFull:  # too many speak already: a line from the drawer
        await socket.send(json.dumps({"character": name, "piece": CANNED}, ensure_ascii=False))
        end = "canned"
    except tinyzh.TinyzhError as error:
        end = str(error)
    await socket.send(json.dumps({"character": name, "end": end}, ensure_ascii=False))


async def main(arguments: argparse.Namespace) -> None:
    with tinyzh.Model(arguments.model, dtype="int8", queue_limit=64) as model:

        async def connection(socket: ServerConnection) -> None:
            sessions: dict[str, tinyzh.Session] = {}
            turns: set[asyncio.Task[None]] = set()
            async for text in socket:
                message = json.loads(text)
                name = message["character"]
                if name not in sessions:
                    sessions[name] = model.session(f"从前，有一只叫{name}的小动物。")
                turn = asyncio.create_task(speak(socket, sessions[name], message))
                turns.add(turn)
                turn.add_done_callback(turns.discard)
            for turn in turns:  # the player is gone: nobody listens
                turn.cancel()

        async with serve(connection, "127.0.0.1", arguments.port) as server:
            print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
            await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", help="a checkpoint; without it the built-in story model")
    parser.add_argument("--port", type=int, default=8765, help="0: any that is free")
    asyncio.run(main(parser.parse_args()))
