//! One mistake at a time and what is said about it.

use super::load_with;

/// A configuration with one mistake, the line of `error:` and a part of the line of `help:`.
const BAD: &[(&str, &str, &str)] = &[
    (
        "[limits]\ntimeuot = \"1s\"",
        "limits.timeuot (node.toml:2): is not a key",
        "did you mean `limits.timeout`?",
    ),
    (
        "[limts]\n",
        "limts (node.toml:1): is not a key",
        "did you mean `limits`?",
    ),
    (
        "[centrifugo]\ntls.cert = \"cert.pem\"",
        "centrifugo.tls.cert = \"cert.pem\" (node.toml:2): is nothing without centrifugo.tls.key",
        "set centrifugo.tls.key too",
    ),
    (
        "[centrifugo]\nqueue_bytes = \"1MiB\"",
        "centrifugo.queue_bytes = \"1MiB\" (node.toml:2): is less than centrifugo.message_bytes",
        "raise it",
    ),
    (
        "x = 1",
        "x (node.toml:1): is not a key",
        "there are `node`, `listen`",
    ),
    (
        "[limits]\n\"a.b\" = 1",
        "limits.a.b (node.toml:2): is not a key",
        "remove it",
    ),
    (
        "limits = 3",
        "limits (node.toml:1): must be a table, and is a number",
        "one by one",
    ),
    (
        "[limits]\ntimeout = \"3 parsecs\"",
        "limits.timeout = \"3 parsecs\" (node.toml:2): is not a duration",
        "such as 250ms",
    ),
    (
        "[limits]\ntimeout = 3",
        "limits.timeout = 3 (node.toml:2): must be a string, and is a number",
        "such as \"3s\"",
    ),
    (
        "[limits]\ntimeout = \"0s\"",
        "limits.timeout = \"0s\" (node.toml:2): must be from 1ms to 1h",
        "from 1ms to 1h",
    ),
    (
        "[limits]\nstreams = -1",
        "limits.streams = -1 (node.toml:2): must be a whole number from 1 to 10000000",
        "without quotes",
    ),
    (
        "[limits]\nstreams = 1.5",
        "limits.streams = 1.5 (node.toml:2): must be a whole number from",
        "without quotes",
    ),
    (
        "[limits]\nin_flight = 0",
        "limits.in_flight = 0 (node.toml:2): must be a whole number from 1",
        "from 1 to 1000000",
    ),
    (
        "[limits]\nmessage_bytes = \"4 cows\"",
        "limits.message_bytes = \"4 cows\" (node.toml:2): is not a size",
        "64KiB",
    ),
    (
        "[limits]\nmessage_bytes = 99999999999999999999",
        "limits.message_bytes = 100000000000000000000.0 (node.toml:2): is not a size",
        "64KiB",
    ),
    (
        "[limits]\nin_flight_bytes = \"1MiB\"",
        "limits.in_flight_bytes = \"1MiB\" (node.toml:2): is less than limits.message_bytes",
        "raise it",
    ),
    (
        "[limits]\nshard_bytes = \"1MiB\"",
        "limits.shard_bytes = \"1MiB\" (node.toml:2): is less than limits.message_bytes",
        "raise it",
    ),
    (
        "[limits]\ntimeout = \"50ms\"",
        "limits.deadline_margin = \"50ms\" (default): leaves nothing of limits.timeout",
        "lower it",
    ),
    (
        "[runtime]\nshards_per_core = 65",
        "runtime.shards_per_core = 65 (node.toml:2): must be a whole number from 8 to 64",
        "from 8 to 64",
    ),
    (
        "[node]\nname = \"a b\"",
        "node.name = \"a b\" (node.toml:2): is not a name",
        "rename it",
    ),
    (
        "[state]\nstore = \"x\"",
        "state (node.toml:1): is not part of this version",
        "remove it",
    ),
    (
        "[node]\ndata = \"\"",
        "node.data = \"\" (node.toml:2): must not be empty",
        "give it a value",
    ),
    (
        "[node]\nroles = [\"voter\", \"leader\"]",
        "node.roles = [\"voter\", \"leader\"] (node.toml:2): `leader` is none of its words",
        "voter",
    ),
    (
        "[node]\nroles = []",
        "node.roles = [] (node.toml:2): names no role",
        "voter, ingress, region",
    ),
    (
        "[node]\nroles = [\"region\", \"region\"]",
        "node.roles = [\"region\", \"region\"] (node.toml:2): names `region` twice",
        "once",
    ),
    (
        "[node]\nserves = [\"connect\", \"channels\"]",
        "node.serves = [\"connect\", \"channels\"] (node.toml:2): `channels` is no group of events",
        "did you mean `channel`?",
    ),
    (
        "[node]\nserves = [\"rpcs:a\"]",
        "node.serves = [\"rpcs:a\"] (node.toml:2): `rpcs:a` is no group of events",
        "connect",
    ),
    (
        "[node]\nserves = [\"rpc:\"]",
        "node.serves = [\"rpc:\"] (node.toml:2): `rpc:` names no methods",
        "write rpc:a.b for one method",
    ),
    (
        "[node]\nserves = [\"rpc:chat*\"]",
        "node.serves = [\"rpc:chat*\"] (node.toml:2): `rpc:chat*` names no methods",
        "rpc:a.* for those that begin with a.",
    ),
    (
        "[node]\nserves = [\"rpc:a\", \"connect\", \"rpc:a\"]",
        "node.serves = [\"rpc:a\", \"connect\", \"rpc:a\"] (node.toml:2): names `rpc:a` twice",
        "once",
    ),
    (
        "[cluster]\nlisten = \"x\"",
        "cluster.listen = \"x\" (node.toml:2): is not an address to listen on",
        "127.0.0.1:10001",
    ),
    (
        "[cluster]\nlisen = \"x\"",
        "cluster.lisen (node.toml:2): is not a key",
        "did you mean `cluster.listen`?",
    ),
    (
        "cluster = true",
        "cluster (node.toml:1): must be a table, and is true or false",
        "one by one",
    ),
    (
        "[cluster]\nlisten = \"0.0.0.0:7946\"\ninsecure = true",
        "cluster.listen = \"0.0.0.0:7946\" (node.toml:2): is every address of the machine",
        "set cluster.advertise",
    ),
    (
        "[cluster]\nadvertise = \"0.0.0.0:7946\"\ninsecure = true",
        "cluster.advertise = \"0.0.0.0:7946\" (node.toml:2): is a wildcard, which nobody can dial",
        "reach this node at",
    ),
    (
        "[cluster]\nadvertise = \"7946\"",
        "cluster.advertise = \"7946\" (node.toml:2): `7946` is not where a node can be dialled",
        "node-b:7946",
    ),
    (
        "[cluster]\nseeds = [\"127.0.0.1\"]",
        "cluster.seeds = [\"127.0.0.1\"] (node.toml:2): `127.0.0.1` is not where a node can be dialled",
        "HOST:PORT",
    ),
    (
        "[cluster]\nlisten = \"127.0.0.1:10001\"",
        "cluster.listen = \"127.0.0.1:10001\" (node.toml:2): is the port that listen.grpc has",
        "of its own",
    ),
    (
        "[cluster]\nlisten = \"127.0.0.1:10003\"",
        "cluster.listen = \"127.0.0.1:10003\" (node.toml:2): is the port that listen.admin has",
        "of its own",
    ),
    (
        "[cluster]\nlisten = \"10.0.0.1:7946\"",
        "cluster.listen = \"10.0.0.1:7946\" (node.toml:2): reaches beyond this machine",
        "set cluster.secret",
    ),
    (
        "[cluster]\nadvertise = \"node-a:7946\"",
        "cluster.advertise = \"node-a:7946\" (node.toml:2): reaches beyond this machine",
        "cluster.insecure = true",
    ),
    (
        "[cluster]\nseeds = [\"localhost:1\", \"[::1]:1\", \"10.0.0.2:7946\"]",
        "cluster.seeds = [\"localhost:1\", \"[::1]:1\", \"10.0.0.2:7946\"] (node.toml:2): reaches beyond this machine",
        "cluster.tls",
    ),
    (
        "[cluster]\nsecret = \"0123456789abcde\"",
        "cluster.secret = \"<redacted>\" (node.toml:2): holds a secret (number 1) of 15 bytes, and at least 16",
        "32 random bytes",
    ),
    (
        "[cluster]\nsecret = [\"0123456789abcdef\", \"  short  \"]",
        "cluster.secret = \"<redacted>\" (node.toml:2): holds a secret (number 2) of 5 bytes",
        "32 random bytes",
    ),
    (
        "[cluster]\nsecret = [\"a\", \"a\", \"a\", \"a\", \"a\"]",
        "cluster.secret = \"<redacted>\" (node.toml:2): holds 5 secrets, and at most 4 are known at once",
        "first",
    ),
    (
        "[cluster]\nsecret = \"file:token\"",
        "cluster.secret = \"<redacted>\" (node.toml:2): holds a secret (number 1) of 11 bytes",
        "32 random bytes",
    ),
    (
        "[cluster]\nsecret = \"file:nowhere\"",
        "cluster.secret = \"<redacted>\" (node.toml:2): names a file that cannot be read",
        "readable text file",
    ),
    (
        "[cluster]\nsecret = \"${CLUSTER_SECRET}\"",
        "cluster.secret = \"<redacted>\" (node.toml:2): needs the environment variable CLUSTER_SECRET, which is not set",
        "set CLUSTER_SECRET",
    ),
    (
        "[cluster]\ntls = { cert = \"cert.pem\", key = \"key.pem\" }",
        "cluster.tls.ca (node.toml:2): is missing",
        "add it",
    ),
    (
        "[cluster]\ntls = { cert = \"cert.pem\", key = \"key.pem\", ca = \"ca.pem\" }",
        "cluster.tls.ca = \"ca.pem\" (node.toml:2): cannot be read",
        "readable PEM file",
    ),
    (
        "[cluster]\nvoters = 2",
        "cluster.voters = 2 (node.toml:2): must be 1, 3 or 5",
        "an even number is less available",
    ),
    (
        "[cluster]\nvoters = 7",
        "cluster.voters = 7 (node.toml:2): must be a whole number from 1 to 5",
        "from 1 to 5",
    ),
    (
        "[cluster]\nlease = { length = \"799ms\" }\nraft = { election = \"70ms\", heartbeat = \"20ms\" }",
        "cluster.lease.length = \"799ms\" (node.toml:2): is less than four heartbeats of 200 ms",
        "lower cluster.lease.heartbeat",
    ),
    (
        "[cluster]\nlease = { drift_margin = 0.08 }",
        "cluster.lease.drift_margin = 0.08 (node.toml:2): is less than 0.09",
        "at least 0.09",
    ),
    (
        "[cluster]\nraft = { election = \"300ms\" }",
        "cluster.raft.election = \"300ms\" (node.toml:2): makes the worst election among 3 voters 850 ms, more than 0.7 of the lease of 1200 ms",
        "raise cluster.lease.length",
    ),
    (
        "[cluster]\nvoters = 5\nlease = { length = \"1s\" }",
        "cluster.raft.election = \"200ms\" (default): makes the worst election among 5 voters 770 ms",
        "lower it",
    ),
    (
        "[cluster]\nraft = { heartbeat = \"200ms\" }",
        "cluster.raft.election = \"200ms\" (default): is not above cluster.raft.heartbeat",
        "three heartbeats",
    ),
    (
        "[cluster]\n[limits]\nmessage_bytes = \"64MiB\"\nshard_bytes = \"64MiB\"",
        "limits.message_bytes = \"64MiB\" (node.toml:3): is more than 63 MiB",
        "lower it",
    ),
    (
        "[listen]\nhttp = \"127.0.0.1:10002\"",
        "listen.http (node.toml:2): is not part of this version",
        "remove it",
    ),
    (
        "[log]\notlp = \"http://x\"",
        "log.otlp = \"http://x\" (node.toml:2): is not the address of a collector",
        "http://127.0.0.1:4317",
    ),
    (
        "[log]\notlp = \"localhost:4317\"",
        "log.otlp = \"localhost:4317\" (node.toml:2): is not the address of a collector",
        "http://127.0.0.1:4317",
    ),
    (
        "[log]\notlp = \"http://x:4318/v1/traces\"",
        "log.otlp = \"http://x:4318/v1/traces\" (node.toml:2): is an address of OTLP over HTTP",
        "port for gRPC",
    ),
    (
        "[log]\notlp = \"http://user:secret@x:4317\"",
        "log.otlp (node.toml:2): is not the address of a collector",
        "http://127.0.0.1:4317",
    ),
    (
        "[log]\notlp = \"http://x:4317\"\nsampling = 1.5",
        "log.sampling = 1.5 (node.toml:3): must be a number from 0 to 1",
        "0.01",
    ),
    (
        "[log]\notlp = \"http://x:4317\"\notlp_headers = \"secret\"",
        "log.otlp_headers = \"<redacted>\" (node.toml:3): is not a list of metadata",
        "NAME=VALUE",
    ),
    (
        "[log]\notlp = \"https://x:4317\"\notlp_ca = \"gone.pem\"",
        "log.otlp_ca = \"gone.pem\" (node.toml:3): cannot be read",
        "PEM",
    ),
    (
        "[listen]\ngrpc = \"example.org:1\"",
        "listen.grpc = \"example.org:1\" (node.toml:2): is not an address to listen on",
        "127.0.0.1:10001",
    ),
    (
        "[listen]\ngrpc = \":10001\"",
        "listen.grpc = \":10001\" (node.toml:2): is not an address",
        "write 0.0.0.0:10001",
    ),
    (
        "[listen]\ngrpc = \"unix://run/x\"",
        "listen.grpc = \"unix://run/x\" (node.toml:2): is not the absolute path",
        "three slashes",
    ),
    (
        "[listen]\ngrpc = \"0.0.0.0:1\"",
        "listen.grpc = \"0.0.0.0:1\" (node.toml:2): lets anyone beyond this machine send events",
        "listen.auth",
    ),
    (
        "[listen]\ngrpc = \"[::]:1\"",
        "listen.grpc = \"[::]:1\" (node.toml:2): lets anyone",
        "allow_open",
    ),
    (
        "[listen]\ngrpc = \"10.1.2.3:1\"",
        "listen.grpc = \"10.1.2.3:1\" (node.toml:2): lets anyone",
        "client_ca",
    ),
    (
        "[listen]\nadmin = \"0.0.0.0:1\"",
        "listen.admin = \"0.0.0.0:1\" (node.toml:2): is reachable beyond this machine",
        "admin_token",
    ),
    (
        "[listen]\nadmin = \"0.0.0.0:1\"\nadmin_token = \"${NONE:-}\"",
        "listen.admin = \"0.0.0.0:1\" (node.toml:2): is reachable",
        "admin_token",
    ),
    (
        "[listen]\nadmin = \"127.0.0.1:10001\"",
        "listen.admin = \"127.0.0.1:10001\" (node.toml:2): is the port that listen.grpc has",
        "of its own",
    ),
    (
        "[listen]\nauth = { metadata = \"x-k\", value = \"\" }",
        "listen.auth.value = \"\" (node.toml:2): is empty",
        "give it a value",
    ),
    (
        "[listen.auth]\nmetadata = \"x-k\"",
        "listen.auth.value (node.toml:1): is missing",
        "value = \"${ROUTER_KEY}\"",
    ),
    (
        "[listen.auth]\nvalue = \"v\"\nmetadata = \"grpc-x\"",
        "listen.auth.metadata = \"grpc-x\" (node.toml:3): is a metadata key that gRPC keeps",
        "choose another",
    ),
    (
        "[listen]\nauth = \"v\"",
        "listen.auth (node.toml:2): must be a table, and is a string",
        "one by one",
    ),
    (
        "[listen]\ntls = { cert = \"nowhere.pem\", key = \"key.pem\" }",
        "listen.tls.cert = \"nowhere.pem\" (node.toml:2): cannot be read",
        "PEM",
    ),
    (
        "[listen]\ntls = { client_ca = \"cert.pem\", key = \"key.pem\" }",
        "listen.tls.cert (node.toml:2): is missing",
        "cert.pem",
    ),
    (
        "[listen]\nallow_open = \"yes\"",
        "listen.allow_open = \"yes\" (node.toml:2): must be true or false, and is a string",
        "without quotes",
    ),
    (
        "[centrifugo]\napi = [\"http://x:1\"]",
        "centrifugo.api = [\"http://x:1\"] (node.toml:2): `http://x:1` is not a gRPC address",
        "grpc://HOST:PORT",
    ),
    (
        "[centrifugo]\nclient = \"http://x\"",
        "centrifugo.client = \"http://x\" (node.toml:2): is not a WebSocket address",
        "ws://",
    ),
    (
        "[channel]\nnamespace_boundary = \"\"",
        "channel.namespace_boundary = \"\" (node.toml:2): must be at least one character",
        "Centrifugo",
    ),
    (
        "[log]\nformat = \"prety\"",
        "log.format = \"prety\" (node.toml:2): must be one of auto, pretty, json",
        "did you mean `pretty`?",
    ),
    (
        "[log]\nlevel = \"inof\"",
        "log.level = \"inof\" (node.toml:2): names no log level",
        "did you mean `info`?",
    ),
    (
        "[log]\nlevel = \"info,x y=debug\"",
        "log.level = \"info,x y=debug\" (node.toml:2): holds a target",
        "target=level",
    ),
    (
        "[limits]\ntimeout = \"${LATER}\"",
        "limits.timeout = \"${LATER}\" (node.toml:2): needs the environment variable LATER, which is not set",
        "${LATER:-default}",
    ),
    (
        "[node]\nname = \"${A\"",
        "node.name = \"${A\" (node.toml:2): opens a `${` that nothing closes",
        "$${",
    ),
    (
        "[node]\nname = \"${A B}\"",
        "node.name = \"${A B}\" (node.toml:2): holds a `${…}` that is not the name",
        "${NAME}",
    ),
    (
        "[node]\nname = \"file:nowhere\"",
        "node.name = \"file:nowhere\" (node.toml:2): names a file that cannot be read",
        "path",
    ),
    (
        "[node]\nname = \"file:empty\"",
        "node.name = \"file:empty\" (node.toml:2): names a file that is empty",
        "write",
    ),
    (
        "[node]\nname = \"file:binary\"",
        "node.name = \"file:binary\" (node.toml:2): names a file that is not UTF-8",
        "path",
    ),
    (
        "[node]\nname = ",
        "node.toml:2: not TOML: ",
        "correct the line",
    ),
    (
        "interceptor = 3",
        "interceptor (node.toml:1): must be a list of tables, and is a number",
        "double brackets",
    ),
    (
        "[interceptor]\nname = \"x\"",
        "interceptor (node.toml:1): must be a list of tables, and is a table",
        "double brackets",
    ),
    (
        "[[interceptor]]\nname = \"x\"\non = \"*\"\nkind = \"jwt\"",
        "interceptor.0.kind = \"jwt\" (node.toml:4): the kind `jwt` is not part of this version",
        "remove",
    ),
    (
        "[[interceptor]]\nname = \"x\"\non = \"*\"\nkind = \"limti\"",
        "interceptor.0.kind = \"limti\" (node.toml:4): must be one of",
        "did you mean `limit`?",
    ),
    (
        "[[interceptor]]\non = \"*\"\nkind = \"access-log\"",
        "interceptor.0.name (node.toml:1): is missing",
        "name = \"log\"",
    ),
    (
        "[[interceptor]]\nname = \"x\"\non = [\"*\", \"rpc\"]\nkind = \"access-log\"",
        "interceptor.0.on = [\"*\", \"rpc\"] (node.toml:3): a list holds events only",
        "by itself",
    ),
    (
        "[[interceptor]]\nname = \"x\"\non = []\nkind = \"access-log\"",
        "interceptor.0.on = [] (node.toml:3): names no event",
        "a list",
    ),
    (
        "[[interceptor]]\nname = \"x\"\non = \"*\"\nkind = \"access-log\"\nfields = [\"usr\"]",
        "interceptor.0.fields = [\"usr\"] (node.toml:5): `usr` is none of its words",
        "did you mean `user`?",
    ),
    (
        "[[interceptor]]\nname = \"x\"\non = \"*\"\nkind = \"access-log\"\nrate = 1",
        "interceptor.0.rate (node.toml:5): is not a key",
        "only the kind `limit` has it",
    ),
    (
        "[[interceptor]]\nname = \"x\"\non = \"*\"\nkind = \"limit\"\nrate = 0",
        "interceptor.0.rate = 0 (node.toml:5): must be above 0",
        "route to `deny`",
    ),
    (
        "[[interceptor]]\nname = \"x\"\non = \"*\"\nkind = \"limit\"\nrate = nan",
        "interceptor.0.rate = nan (node.toml:5): must be above 0",
        "20",
    ),
    (
        "[[interceptor]]\nname = \"x\"\non = \"*\"\nkind = \"limit\"",
        "interceptor.0.rate (node.toml:1): is missing",
        "rate = 20",
    ),
    (
        "[[interceptor]]\nname = \"x\"\non = \"*\"\nkind = \"limit\"\nrate = 1\nper = \"{usr}\"",
        "interceptor.0.per = \"{usr}\" (node.toml:6): `usr` is a field that no event has",
        "{header.NAME}",
    ),
    (
        "[[interceptor]]\nname = \"x\"\non = \"*\"\nkind = \"header-auth\"\nheader = \"x\"\nvalue = \"\"",
        "interceptor.0.value = \"\" (node.toml:6): is empty",
        "give it a value",
    ),
    (
        "[[route]]\nhandler = \"deny\"",
        "route.0.on (node.toml:1): is missing",
        "on = ",
    ),
    (
        "[[route]]\non = \"subscrib\"\nhandler = \"deny\"",
        "route.0.on = \"subscrib\" (node.toml:2): `subscrib` is no event",
        "did you mean `subscribe`?",
    ),
    (
        "[[route]]\non = [\"rpc\", \"rpc\"]\nhandler = \"deny\"",
        "route.0.on = [\"rpc\", \"rpc\"] (node.toml:2): names `rpc` twice",
        "once",
    ),
    (
        "[[route]]\non = \"rpc\"\nhandler = \"denny\"",
        "route.0.handler = \"denny\" (node.toml:3): no handler has this name",
        "did you mean `deny`?",
    ),
    (
        "[[route]]\non = \"connect\"\nhandler = \"allow\"",
        "route.0.handler = \"allow\" (node.toml:3): `allow` cannot answer `connect`",
        "`static`",
    ),
    (
        "[[route]]\non = \"publish\"\nhandler = \"echo\"",
        "route.0.handler = \"echo\" (node.toml:3): `echo` answers only `rpc`",
        "`allow`",
    ),
    (
        "[[route]]\non = \"raw\"\nhandler = \"allow\"",
        "route.0.handler = \"allow\" (node.toml:3): `allow` cannot answer `raw`",
        "`deny`",
    ),
    (
        "[[route]]\non = \"refresh\"\nmatch = \"x\"\nhandler = \"allow\"",
        "route.0.match = \"x\" (node.toml:3): `refresh` has neither channel nor method",
        "remove match",
    ),
    (
        "[[route]]\non = \"rpc\"\nkey = \"channel\"\nhandler = \"allow\"",
        "route.0.key = \"channel\" (node.toml:3): `rpc` has no channel",
        "another key",
    ),
    (
        "[[route]]\non = \"publish\"\nkey = \"{method}\"\nhandler = \"allow\"",
        "route.0.key = \"{method}\" (node.toml:3): `publish` has no method",
        "another key",
    ),
    (
        "[[route]]\non = \"publish\"\nmatch = \"a:{b}\"\nkey = \"{param.c}\"\nhandler = \"allow\"",
        "route.0.key = \"{param.c}\" (node.toml:4): `match` names no {c}",
        "name {c} in match",
    ),
    (
        "[[route]]\non = \"rpc\"\nkey = \"usr\"\nhandler = \"allow\"",
        "route.0.key = \"usr\" (node.toml:3): is neither a key by name",
        "did you mean `user`?",
    ),
    (
        "[[route]]\non = \"rpc\"\nhandler = \"allow\"\ninterceptors = [\"x\"]",
        "route.0.interceptors = [\"x\"] (node.toml:4): no interceptor is called `x`",
        "add an [[interceptor]]",
    ),
    (
        "[[route]]\non = \"rpc\"\nhandler = \"allow\"\npool = 0",
        "route.0.pool = 0 (node.toml:4): must be a whole number from 1 to 256",
        "from 1",
    ),
    (
        "[handler.x]\nkind = \"http\"\nendpoints = []",
        "handler.x.kind = \"http\" (node.toml:2): the kind `http` is not part of this version",
        "remove",
    ),
    (
        "[handler.x]\nkind = \"grpc\"\nendpoints = []",
        "handler.x.endpoints = [] (node.toml:3): names no endpoint",
        "name one or more",
    ),
    (
        "[handler.x]\nkind = \"roadrunner\"\ncommand = \" \"",
        "handler.x.command = \" \" (node.toml:3): names no program",
        "write the program and its arguments",
    ),
    (
        "[handler.x]\nkind = \"roadrunner\"\ncommand = \"php\"\nrelay = \"tcp://0.0.0.0:7001\"",
        "handler.x.relay = \"tcp://0.0.0.0:7001\" (node.toml:4): lets other machines pass for workers",
        "pipes",
    ),
    (
        "[handler.x]\nkind = \"roadrunner\"\ncommand = \"php\"\nenv = { a = [1] }",
        "handler.x.env (node.toml:4): holds a list under a name",
        "APP_ENV",
    ),
    (
        "[handler.x]\nkind = \"roadrunner\"\ncommand = \"php\"\n[handler.x.pool.dynamic_allocator]\nmax_workers = 101",
        "handler.x.pool.dynamic_allocator.max_workers = 101 (node.toml:5)",
        "100",
    ),
    (
        "[handler.x]\nkind = \"roadrunner\"\ncommand = \"php\"\npool.num_worker = 3",
        "handler.x.pool.num_worker (node.toml:4): is not a key",
        "did you mean `handler.x.pool.num_workers`?",
    ),
    (
        "[handler.x]\nkind = \"static\"",
        "handler.x (node.toml:1): a static handler has one answer, and this has 0",
        "one of",
    ),
    (
        "[handler.x]\nkind = \"static\"\nreply = { }\nerror = { code = 1403, message = \"m\" }",
        "handler.x (node.toml:1): a static handler has one answer, and this has 2",
        "one of",
    ),
    (
        "[handler.x]\nkind = \"static\"\nerror = { code = 200, message = \"m\" }",
        "handler.x.error.code = 200 (node.toml:3): is not an error code that may leave",
        "1403",
    ),
    (
        "[handler.x]\nkind = \"static\"\ndisconnect = { code = 3000 }",
        "handler.x.disconnect.code = 3000 (node.toml:3): is not a disconnect code",
        "4500 to 4999",
    ),
    (
        "[handler.x]\nkind = \"static\"\nreply = 3",
        "handler.x.reply = 3 (node.toml:3): must be a table, and is a number",
        "fields",
    ),
    (
        "[handler.x]\nkind = \"static\"\nreply = { a = inf }",
        "handler.x.reply (node.toml:3): holds a number that JSON has no form for",
        "finite",
    ),
    (
        "[handler.deny]\nkind = \"allow\"",
        "handler.deny.kind = \"allow\" (node.toml:2): the name `deny` is that of the built-in handler",
        "another name",
    ),
    (
        "[handler.\"a b\"]\nkind = \"deny\"",
        "handler.a b (node.toml:1): is not a name",
        "rename",
    ),
];

#[test]
fn every_mistake_is_named_with_its_rule_its_place_and_a_fix() {
    for (toml, error, help) in BAD {
        let why = load_with(toml, &[], &[]).map(|_| ()).expect_err(toml);
        assert_eq!(why.problems.len(), 1, "{toml}\n{why}");
        let text = why.to_string();
        let (first, second) = text.split_once('\n').unwrap();
        assert!(
            first.starts_with(&format!("error: {error}")),
            "{toml}\n{text}"
        );
        assert!(
            second.starts_with("help: ") && second.contains(help),
            "{toml}\n{text}"
        );
    }
}
