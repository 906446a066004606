// What users of Jedis do, done once: Rounds (plain|cluster) ADDRESS...
//
// With --survive it writes one key after the other until its input ends, while a node is
// killed, and then looks whether everything is there that was acknowledged. It prints how many
// there are after each hundred, so that whoever started it knows when to go on.

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicBoolean;
import redis.clients.jedis.AbstractTransaction;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.JedisCluster;
import redis.clients.jedis.JedisPooled;
import redis.clients.jedis.Response;
import redis.clients.jedis.UnifiedJedis;
import redis.clients.jedis.exceptions.JedisDataException;
import redis.clients.jedis.exceptions.JedisException;
import redis.clients.jedis.params.ScanParams;
import redis.clients.jedis.params.SetParams;
import redis.clients.jedis.resps.ScanResult;

public final class Rounds {
    private static final long RECOVERS_WITHIN_MILLISECONDS = 30_000;

    public static void main(String[] arguments) throws Exception {
        List<String> words = new ArrayList<>(Arrays.asList(arguments));
        boolean survives = words.remove("--survive");
        boolean cluster = words.remove(0).equals("cluster");
        try (UnifiedJedis client = open(cluster, words)) {
            if (survives) {
                survive(client, cluster);
            } else {
                rounds(client, cluster, words);
            }
        }
        System.out.println("done");
    }

    private static UnifiedJedis open(boolean cluster, List<String> addresses) {
        Set<HostAndPort> nodes = new HashSet<>();
        addresses.forEach(address -> nodes.add(HostAndPort.from(address)));
        return cluster ? new JedisCluster(nodes) : new JedisPooled(HostAndPort.from(addresses.get(0)));
    }

    private static void rounds(UnifiedJedis client, boolean cluster, List<String> addresses) {
        String name = cluster ? "jedis-cluster" : "jedis";
        String key = name + "-greeting";
        client.del(key);
        check("set", client.set(key, "hello"), "OK");
        check("get", client.get(key), "hello");
        check("set nx", client.set(key, "no", SetParams.setParams().nx()), null);
        check("setGet", client.setGet(key, "there"), "hello");
        check("append", client.append(key, "!"), 6L);
        check("expire", client.expire(key, 100), 1L);
        check("ttl", client.ttl(key) > 90, true);
        check("persist", client.persist(key), 1L);
        check("getDel", client.getDel(key), "there!");
        check("get of nothing", client.get(key), null);
        String counter = name + "-counter";
        client.del(counter);
        check("incr", client.incr(counter), 1L);
        check("incrBy", client.incrBy(counter, 41), 42L);
        check("incrByFloat", client.incrByFloat(counter, 0.5), 42.5);
        try {
            client.incr(counter);
            fail("incr of no whole number is taken");
        } catch (JedisDataException error) {
            check("error", error.getMessage(), "ERR value is not an integer or out of range");
        }

        // Over slots in a cluster, one by one; at a door that forwards, in one command.
        String[] keys = new String[100];
        for (int number = 0; number < keys.length; number++) {
            keys[number] = name + "-many-" + number;
            client.set(keys[number], "" + number);
        }
        if (!cluster) {
            List<String> values = client.mget(keys);
            for (int number = 0; number < keys.length; number++) {
                check("mget", values.get(number), "" + number);
            }
            Set<String> found = new TreeSet<>();
            String cursor = ScanParams.SCAN_POINTER_START;
            do {
                ScanResult<String> page =
                        client.scan(cursor, new ScanParams().match(name + "-many-*").count(13));
                found.addAll(page.getResult());
                cursor = page.getCursor();
            } while (!cursor.equals(ScanParams.SCAN_POINTER_START));
            check("scan", found, new TreeSet<>(Arrays.asList(keys)));
            check("del", client.del(keys), 100L);
        }
        for (int number = 0; number < keys.length; number++) {
            check("get", client.get(keys[number]), cluster ? "" + number : null);
        }

        try (var pipeline = client.pipelined()) {
            List<Response<String>> answers = new ArrayList<>();
            for (int number = 0; number < 200; number++) {
                pipeline.set(name + "-pipe-" + number, "" + number);
                answers.add(pipeline.get(name + "-pipe-" + number));
            }
            pipeline.sync();
            for (int number = 0; number < 200; number++) {
                check("pipeline", answers.get(number).get(), "" + number);
            }
        }

        // Transactions of a cluster are not in this version of Jedis, so they take the node.
        if (!cluster) {
            String one = "{" + name + "}-a";
            String other = "{" + name + "}-b";
            client.del(one, other);
            try (AbstractTransaction transaction = client.multi()) {
                transaction.set(one, "1");
                transaction.incr(one);
                transaction.set(other, "x");
                check("multi", transaction.exec(), List.of("OK", 2L, "OK"));
            }
            try (Jedis jedis = new Jedis(HostAndPort.from(addresses.get(0)))) {
                jedis.watch(one);
                client.set(one, "changed");
                var transaction = jedis.multi();
                transaction.set(one, "lost");
                check("exec of a changed key", transaction.exec(), null);
            }
            check("after a stopped transaction", client.get(one), "changed");
        }
    }

    private static void survive(UnifiedJedis client, boolean cluster) throws Exception {
        AtomicBoolean ended = new AtomicBoolean();
        Thread input = new Thread(() -> {
            try {
                System.in.readAllBytes();
            } catch (java.io.IOException gone) {
                // Nobody is there any more, which is an end too.
            }
            ended.set(true);
        });
        input.setDaemon(true);
        input.start();
        List<String> acknowledged = new ArrayList<>();
        long errors = 0;
        long lostSince = 0;
        for (int number = 0; !ended.get(); number++) {
            String key = "survive-jedis-" + cluster + "-" + number;
            try {
                client.set(key, key);
            } catch (JedisException error) {
                // Whether it was done is not known; the next key is tried.
                errors++;
                lostSince = lostSince == 0 ? System.currentTimeMillis() : lostSince;
                if (System.currentTimeMillis() - lostSince > RECOVERS_WITHIN_MILLISECONDS) {
                    throw error;
                }
                Thread.sleep(20);
                continue;
            }
            lostSince = 0;
            acknowledged.add(key);
            if (acknowledged.size() % 100 == 0) {
                System.out.println("acknowledged " + acknowledged.size());
            }
        }
        for (String key : acknowledged) {
            check(key + " was acknowledged", client.get(key), key);
        }
        System.out.println(acknowledged.size() + " acknowledged and there, " + errors + " errors");
    }

    private static void check(String what, Object found, Object wanted) {
        if (!Objects.equals(found, wanted)) {
            fail(what + ": " + found + ", not " + wanted);
        }
    }

    private static void fail(String why) {
        System.err.println(why);
        System.exit(1);
    }
}
