"""What schemathesis must not try on a cluster of one small node, and still try the rest."""

from urllib.parse import urlencode

import schemathesis

# A partition is a Raft group of its own; a thousand of them for each table that is tried would
# measure the machine and not the door.
MOST_PARTITIONS = 4


@schemathesis.hook
def map_body(context, body):
    operation = getattr(context, "operation", None)
    if operation is not None and operation.path == "/api/v1/tables" and isinstance(body, dict):
        for name in ("partitions", "buckets"):
            if isinstance(body.get(name), int) and not isinstance(body[name], bool):
                body[name] = min(body[name], MOST_PARTITIONS)
    return body


# An address of more than 64 KiB is refused (414) by what reads requests, before there is any operation.
LONGEST_QUERY = 16 << 10


@schemathesis.hook
def map_query(context, query):
    if isinstance(query, dict) and len(urlencode(query, doseq=True)) > LONGEST_QUERY:
        return {name: value[:8] if isinstance(value, list) else value for name, value in query.items()}
    return query
