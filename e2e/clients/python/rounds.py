"""What users of redis-py do, done once: rounds.py (plain|asyncio|cluster) ADDRESS...

With --survive it writes one key after the other until its input ends, while a node is killed,
and then looks whether everything is there that was acknowledged. It prints how many there are
after each hundred, so that whoever started it knows when to go on.
"""

import asyncio
import sys
import threading
import time

import redis
import redis.asyncio
from redis.backoff import ExponentialBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

# How long a client may take to find its way after a node is lost.
RECOVERS_WITHIN = 30.0
ACKNOWLEDGED_AT_A_TIME = 100


def check(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: {found!r}, not {wanted!r}")


def host_and_port(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


def open_plain(addresses, **more):
    host, port = host_and_port(addresses[0])
    return redis.Redis(host=host, port=port, socket_timeout=10, **more)


def open_cluster(addresses, **more):
    nodes = [ClusterNode(*host_and_port(address)) for address in addresses]
    return RedisCluster(startup_nodes=nodes, socket_timeout=10, **more)


def single_keys(client, name):
    key = f"{name}-greeting"
    client.delete(key)
    check("set", client.set(key, b"hello \x00\xff"), True)
    check("get", client.get(key), b"hello \x00\xff")
    check("set nx", client.set(key, "no", nx=True), None)
    check("set get", client.set(key, "there", xx=True, get=True), b"hello \x00\xff")
    check("append", client.append(key, "!"), 6)
    check("getrange", client.getrange(key, 1, -2), b"here")
    check("ttl of no time", client.ttl(key), -1)
    check("expire", client.expire(key, 100), True)
    if not 90 <= client.ttl(key) <= 100:
        sys.exit(f"ttl: {client.ttl(key)}")
    check("persist", client.persist(key), True)
    check("type", client.type(key), b"string")
    check("getdel", client.getdel(key), b"there!")
    check("get of nothing", client.get(key), None)
    counter = f"{name}-counter"
    client.delete(counter)
    check("incr", client.incr(counter), 1)
    check("incrby", client.incrby(counter, 41), 42)
    check("incrbyfloat", client.incrbyfloat(counter, 0.5), 42.5)
    try:
        client.incr(counter)
        sys.exit("incr of no whole number is taken")
    except redis.ResponseError as error:
        check("error", str(error), "value is not an integer or out of range")
    check("short life", client.set(key, "x", px=200), True)
    deadline = time.monotonic() + 5
    while client.get(key) is not None:
        if time.monotonic() > deadline:
            sys.exit("a key outlives its time by seconds")
        time.sleep(0.02)


def many_keys(client, name):
    pairs = {f"{name}-many-{number}": f"{number}" for number in range(200)}
    mset = getattr(client, "mset_nonatomic", client.mset)
    mget = getattr(client, "mget_nonatomic", client.mget)
    mset(pairs)
    check("mget over slots", mget(list(pairs)), [value.encode() for value in pairs.values()])
    found = sorted(client.scan_iter(match=f"{name}-many-*", count=17))
    check("scan", found, sorted(key.encode() for key in pairs))
    check("exists", client.exists(*pairs), 200)
    check("delete", client.delete(*pairs), 200)
    check("scan of nothing", list(client.scan_iter(match=f"{name}-many-*")), [])


def pipelines(client, name):
    pipe = client.pipeline(transaction=False)
    for number in range(300):
        pipe.set(f"{name}-pipe-{number}", number)
        pipe.get(f"{name}-pipe-{number}")
    answers = pipe.execute()
    check("pipeline", answers[1::2], [str(number).encode() for number in range(300)])


def transactions(client, name):
    one, other = f"{{{name}}}-a", f"{{{name}}}-b"
    client.delete(one, other)
    pipe = client.pipeline(transaction=True)
    pipe.set(one, 1)
    pipe.incr(one)
    pipe.set(other, "x", ex=50)
    check("multi", pipe.execute(), [True, 2, True])

    def add_one(pipe):
        value = int(pipe.get(one))
        pipe.multi()
        pipe.set(one, value + 1)

    client.transaction(add_one, one)
    check("after watch", client.get(one), b"3")
    with client.pipeline() as pipe:
        pipe.watch(one)
        client.set(one, "changed")
        pipe.multi()
        pipe.set(one, "lost")
        try:
            pipe.execute()
            sys.exit("a watched key was changed, and the transaction was done")
        except redis.WatchError:
            pass
    check("after a stopped transaction", client.get(one), b"changed")


def plain(addresses):
    for protocol in (2, 3):
        client = open_plain(addresses, protocol=protocol, client_name=f"rounds-{protocol}")
        name = f"redis-py-{protocol}"
        check("ping", client.ping(), True)
        check("client_getname", client.client_getname() in (b"rounds-2", b"rounds-3", "rounds-2", "rounds-3"), True)
        if client.client_id() <= 0 or "redis_version" not in client.info("server"):
            sys.exit("CLIENT ID or INFO is not as tools take it")
        single_keys(client, name)
        many_keys(client, name)
        pipelines(client, name)
        transactions(client, name)
        client.close()


async def with_asyncio(addresses):
    host, port = host_and_port(addresses[0])
    # Fewer connections than there are calls at once, so that some wait for one.
    pool = redis.asyncio.BlockingConnectionPool(host=host, port=port, socket_timeout=10, max_connections=20)
    client = redis.asyncio.Redis(connection_pool=pool)
    name = "asyncio"
    check("set", await client.set(f"{name}-a", "1", ex=100), True)
    values = await asyncio.gather(*(client.incr(f"{name}-{number % 7}-n") for number in range(200)))
    check("concurrent incr", len(values), 200)
    sums = await client.mget([f"{name}-{number}-n" for number in range(7)])
    check("sum", sum(map(int, sums)) >= 200, True)
    async with client.pipeline(transaction=True) as pipe:
        pipe.set(f"{{{name}}}a", 1).incr(f"{{{name}}}a").get(f"{{{name}}}a")
        check("multi", await pipe.execute(), [True, 2, b"2"])
    keys = [key async for key in client.scan_iter(match=f"{name}-*-n", count=3)]
    check("scan", sorted(set(keys)), [f"{name}-{number}-n".encode() for number in range(7)])
    check("delete", await client.delete(*keys), 7)
    await client.aclose()
    await pool.aclose()
    nodes = [redis.asyncio.cluster.ClusterNode(*host_and_port(address)) for address in addresses[1:]]
    if nodes:
        cluster = redis.asyncio.cluster.RedisCluster(startup_nodes=nodes)
        for number in range(50):
            check("set", await cluster.set(f"{name}-c-{number}", number), True)
        got = [await cluster.get(f"{name}-c-{number}") for number in range(50)]
        check("get in the cluster", got, [str(number).encode() for number in range(50)])
        await cluster.aclose()


def cluster(addresses):
    client = open_cluster(addresses)
    if len(client.get_primaries()) < 3:
        sys.exit(f"there should be three nodes: {client.get_primaries()}")
    name = "redis-py-cluster"
    single_keys(client, name)
    many_keys(client, name)
    pipelines(client, name)
    one, other = f"{{{name}}}-a", f"{{{name}}}-b"
    client.delete(one, other)
    pipe = client.pipeline(transaction=True)
    pipe.set(one, 1)
    pipe.incr(one)
    pipe.set(other, 7)
    # In a cluster this version hands over what the server said.
    check("multi in one slot", pipe.execute(), [b"OK", 2, b"OK"])
    check("keyslot", client.cluster_keyslot("foo"), 12182)
    client.close()


def survive(kind, addresses):
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.02), 20)
    client = open_cluster(addresses) if kind == "cluster" else open_plain(addresses, retry=retry)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    acknowledged, errors, lost_since = [], 0, None
    number = 0
    while not ended.is_set():
        key = f"survive-{kind}-{number}"
        number += 1
        try:
            client.set(key, number)
        except redis.RedisError as error:
            # Whether it was done is not known; the next key is tried.
            errors += 1
            lost_since = lost_since or time.monotonic()
            if time.monotonic() - lost_since > RECOVERS_WITHIN:
                sys.exit(f"no write since {RECOVERS_WITHIN} s: {error!r}")
            time.sleep(0.02)
            continue
        lost_since = None
        acknowledged.append((key, str(number).encode()))
        if len(acknowledged) % ACKNOWLEDGED_AT_A_TIME == 0:
            print("acknowledged", len(acknowledged), flush=True)
    for key, value in acknowledged:
        check(f"{key} was acknowledged", client.get(key), value)
    print(len(acknowledged), "acknowledged and there,", errors, "errors", flush=True)


def main():
    words = [word for word in sys.argv[1:] if word != "--survive"]
    kind, addresses = words[0], words[1:]
    if "--survive" in sys.argv:
        survive(kind, addresses)
    elif kind == "asyncio":
        asyncio.run(with_asyncio(addresses))
    else:
        {"plain": plain, "cluster": cluster}[kind](addresses)
    print("done")


main()
