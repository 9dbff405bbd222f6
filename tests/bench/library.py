"""The Python library pgstream, used as its documentation shows: one handler, one upsert for each event.

    library.py URL SLOT PUBLICATION TABLE STORE ROWS VECTORS

Writes points of the first ROWS rows of TABLE, and prints the seconds from the first event to the last upsert. Vectors are
ready: VECTORS holds one of f32 after the other for each row.
"""

import array
import asyncio
import os
import sys
import time

from pgstream import PGStream
from pgstream.sinks import PgVectorSink

url, slot, publication, table, store, rows, vectors = sys.argv[1:]
rows = int(rows)


def read_vectors():
    numbers = array.array("f")
    with open(vectors, "rb") as file:
        numbers.frombytes(file.read())
    dimension = len(numbers) // rows
    return [list(numbers[start : start + dimension]) for start in range(0, len(numbers), dimension)]


async def main():
    ready = read_vectors()
    stream = PGStream(dsn=url, slot_name=slot, publication_name=publication)
    stream.watch(table).sink(PgVectorSink(dsn=url, table=store))
    began, written = None, 0

    @stream.on_change
    async def handle(event, sink):
        nonlocal began, written
        began = began or time.monotonic()
        payload = {"title": event.row["title"], "category": event.row["category"]}
        await sink.upsert(id=event.row["id"], vector=ready[written], payload=payload)
        written += 1
        if written == rows:
            print(time.monotonic() - began, flush=True)
            os._exit(0)  # its own way to stop waits ten seconds for the thread that waits for this handler

    await stream.setup()
    await stream.start()


asyncio.run(main())
