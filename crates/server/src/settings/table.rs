use std::fmt::Write;

/// A setting, as it is documented and found.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its key in the file; a dot nests.
    pub key: &'static str,
    /// Its name in the environment.
    pub variable: &'static str,
    /// Other names for it in the environment.
    pub aliases: &'static [&'static str],
    /// Its default, for people.
    pub default: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Whether it must be shown nowhere, and can come from a file: `…_FILE`.
    pub is_secret: bool,
}

const fn plain(
    key: &'static str,
    variable: &'static str,
    default: &'static str,
    about: &'static str,
) -> Setting {
    Setting { key, variable, aliases: &[], default, about, is_secret: false }
}

/// Every setting.
pub const SETTINGS: &[Setting] = &[
    plain(
        "environment",
        "FIREFLOW_ENVIRONMENT",
        "local",
        "`local`, `staging` or `production`; only `local` makes its own secret",
    ),
    plain(
        "listen",
        "FIREFLOW_LISTEN",
        "127.0.0.1:8080",
        "address and port; port 0 picks one and prints it",
    ),
    Setting {
        key: "database.url",
        variable: "FIREFLOW_DATABASE_URL",
        aliases: &["FIREFLOW_DATABASE__URL"],
        default: "sqlite://fireflow.db",
        about: "`sqlite://FILE` or `postgres://USER:PASSWORD@HOST/DATABASE`",
        is_secret: true,
    },
    Setting {
        key: "database.read_url",
        variable: "FIREFLOW_DATABASE__READ_URL",
        aliases: &[],
        default: "",
        about: "a read replica of the PostgreSQL database: lists are read there, perhaps a little \
                old; where it is away they read the primary",
        is_secret: true,
    },
    plain(
        "database.max_connections",
        "FIREFLOW_DATABASE__MAX_CONNECTIONS",
        "4 per CPU, at least 16 on PostgreSQL",
        "the most connections, up to 10000: on PostgreSQL of all kinds, at least 6, with as many more to a read \
         replica; on SQLite those that read single resources",
    ),
    plain(
        "database.acquire_timeout",
        "FIREFLOW_DATABASE__ACQUIRE_TIMEOUT",
        "5s",
        "the longest time that a request waits for its turn at the database, and a connection for \
         an answer; after it 503",
    ),
    plain(
        "database.write_group",
        "FIREFLOW_DATABASE__WRITE_GROUP",
        "64",
        "the most writes that share a transaction of SQLite, and one sync of the disk; 1: each has its \
         own",
    ),
    plain(
        "migrate_on_start",
        "FIREFLOW_MIGRATE_ON_START",
        "true in `local`, else false",
        "whether to apply pending migrations before serving",
    ),
    Setting {
        key: "jwt.secret",
        variable: "FIREFLOW_JWT_SECRET",
        aliases: &["FIREFLOW_JWT__SECRET"],
        default: "in `local` one is made and kept in .fireflow/",
        about: "HS256 secret, outside `local` 32 bytes or more that a generator made (`openssl rand -hex \
                32`); the file form may hold several, one a line: the first signs, all verify; lines \
                that begin with `#` are comments",
        is_secret: true,
    },
    plain(
        "jwt.public_keys",
        "FIREFLOW_JWT__PUBLIC_KEYS",
        "",
        "a file of public keys for RS256, ES256 and Ed25519: a JWKS, or PEM blocks; read again when it \
         changes",
    ),
    plain(
        "jwt.issuer",
        "FIREFLOW_JWT__ISSUER",
        "",
        "what `iss` of a token must be; required outside `local`",
    ),
    plain(
        "jwt.audience",
        "FIREFLOW_JWT__AUDIENCE",
        "",
        "what `aud` of a token must name; required outside `local`",
    ),
    plain(
        "jwt.max_lifetime",
        "FIREFLOW_JWT__MAX_LIFETIME",
        "24h outside `local`, else none",
        "tokens that live longer are refused",
    ),
    plain(
        "jwt.leeway",
        "FIREFLOW_JWT__LEEWAY",
        "10s",
        "how far clocks may differ, for `exp`, `nbf` and `iat` of a token; at most 5m",
    ),
    plain(
        "jwt.roles_claim",
        "FIREFLOW_JWT__ROLES_CLAIM",
        "roles",
        "the claim with the roles, an array or a text with blanks between them: a name such as `scope`, \
         or a dotted path such as `realm_access.roles`",
    ),
    plain(
        "jwt.role_map",
        "FIREFLOW_JWT__ROLE_MAP",
        "",
        "what the identity provider's groups stand for: `fw-admins=admin,fw-operators=editor`; for \
         names with commas a JSON object, or a table `[jwt.role_map]` in the file: \
         `\"CN=fw, admins\" = \"admin\"`; if it is set, no other word names a role",
    ),
    plain(
        "jwt.require_tenants",
        "FIREFLOW_JWT__REQUIRE_TENANTS",
        "false",
        "whether a token without the claim `tenants` is refused, instead of showing all tenants; \
         recommended if firewalls have tenants",
    ),
    plain(
        "jwt.revoked_file",
        "FIREFLOW_JWT__REVOKED_FILE",
        "",
        "a file of refused tokens, one a line: `jti ID`, or `sub SUBJECT UNTIL` for all that were \
         issued to a subject up to an instant; read again when it changes",
    ),
    plain(
        "http.max_body_bytes",
        "FIREFLOW_HTTP__MAX_BODY_BYTES",
        "10485760",
        "the largest request body",
    ),
    plain(
        "http.max_rule_set_bytes",
        "FIREFLOW_HTTP__MAX_RULE_SET_BYTES",
        "67108864",
        "the largest body of a whole rule set",
    ),
    plain(
        "http.request_timeout",
        "FIREFLOW_HTTP__REQUEST_TIMEOUT",
        "30s",
        "the longest time to an answer",
    ),
    plain(
        "http.list_timeout",
        "FIREFLOW_HTTP__LIST_TIMEOUT",
        "5s",
        "the longest time that a page of a list takes in the database; beyond it the filter is to \
         be narrowed",
    ),
    plain(
        "http.max_in_flight",
        "FIREFLOW_HTTP__MAX_IN_FLIGHT",
        "1024",
        "the most requests served at once; more are told to come back",
    ),
    plain(
        "memory.work_bytes",
        "FIREFLOW_MEMORY__WORK_BYTES",
        "268435456",
        "how much memory all requests together may take: bodies and what they become, policies that \
         are compiled, answers until they are sent, exports and streams; one subject has half of it \
         at most; 33554432 or more. Beyond it requests wait 5 s, then are told to come back",
    ),
    plain(
        "inspection.cache_bytes",
        "FIREFLOW_INSPECTION__CACHE_BYTES",
        "268435456",
        "how much memory compiled policies take, about; one of 100,000 rules takes some 100 MB, and one \
         that does not fit is compiled for each inspection",
    ),
    plain(
        "inspection.max_boxes",
        "FIREFLOW_INSPECTION__MAX_BOXES",
        "4000000",
        "the most combinations of entries, over all rules, that a policy is compiled of; beyond it \
         each packet is held against each rule",
    ),
    plain(
        "inspection.max_bytes",
        "FIREFLOW_INSPECTION__MAX_BYTES",
        "134217728",
        "the most memory that compiling a policy takes, in addition to its rules; the same beyond it. \
         That memory is borrowed from `memory.work_bytes`",
    ),
    plain(
        "inspection.max_time",
        "FIREFLOW_INSPECTION__MAX_TIME",
        "5s",
        "the longest time that compiling a policy takes; the same beyond it",
    ),
    plain(
        "http.max_connections",
        "FIREFLOW_HTTP__MAX_CONNECTIONS",
        "8192",
        "the most connections at once; more wait to be accepted. Fewer, with a warning, if so many files \
         cannot be open",
    ),
    plain(
        "http.max_head_bytes",
        "FIREFLOW_HTTP__MAX_HEAD_BYTES",
        "65536",
        "the largest head of a request, its path and headers; a cursor alone may have 32768",
    ),
    plain(
        "http.head_timeout",
        "FIREFLOW_HTTP__HEAD_TIMEOUT",
        "10s",
        "how long a request's head may take to come, a TLS handshake, and each next piece of a body",
    ),
    plain(
        "http.idle_timeout",
        "FIREFLOW_HTTP__IDLE_TIMEOUT",
        "75s",
        "how long a connection may be without progress, in either direction; longer than the \
         request timeout",
    ),
    plain(
        "http.rate_limit",
        "FIREFLOW_HTTP__RATE_LIMIT",
        "1000/s",
        "how many requests of one subject are served: `100/s`, `6000/m`, or `off`",
    ),
    plain(
        "http.address_rate_limit",
        "FIREFLOW_HTTP__ADDRESS_RATE_LIMIT",
        "2000/s",
        "how many requests of one client address (of IPv6: one /64) are looked at, before their \
         token is checked; behind a proxy it needs FIREFLOW_HTTP__TRUSTED_PROXIES, or all clients \
         are one",
    ),
    plain(
        "http.trusted_proxies",
        "FIREFLOW_HTTP__TRUSTED_PROXIES",
        "",
        "blocks of addresses of proxies that are believed who the client is: `10.0.0.0/8,fd00::/8`",
    ),
    plain(
        "http.forwarded_header",
        "FIREFLOW_HTTP__FORWARDED_HEADER",
        "x-forwarded-for",
        "the header in which they say so: `x-forwarded-for` or `forwarded`; the other is not read",
    ),
    plain(
        "http.cors_origins",
        "FIREFLOW_HTTP__CORS_ORIGINS",
        "",
        "origins of web pages that may ask from browsers: `https://console.example.org`; none: off",
    ),
    plain(
        "http.drain_delay",
        "FIREFLOW_HTTP__DRAIN_DELAY",
        "0s in `local`, else 3s",
        "how long requests are still taken after the signal to stop, while `/health/ready` says no",
    ),
    plain(
        "http.stop_timeout",
        "FIREFLOW_HTTP__STOP_TIMEOUT",
        "10s",
        "how long all of the rest of the stop may take: requests under way have all of it but the last \
         fifth, at most 2s, which is for what traces and defects have left and for the database's \
         connections",
    ),
    plain(
        "tls.certificate",
        "FIREFLOW_TLS__CERTIFICATE",
        "",
        "a file with the certificate and those that lead to its root, in PEM: TLS ends here; read \
         again when it changes",
    ),
    plain(
        "tls.key",
        "FIREFLOW_TLS__KEY",
        "",
        "the file of its private key, in PEM; read again when it changes",
    ),
    plain(
        "limits.max_rules",
        "FIREFLOW_LIMITS__MAX_RULES",
        "200000",
        "the most live rules of a policy, up to 10000000; a policy that has more keeps them, and takes \
         no more",
    ),
    plain(
        "limits.max_entries",
        "FIREFLOW_LIMITS__MAX_ENTRIES",
        "1000000",
        "the most source, destination and port entries of a policy's live rules, up to 100000000; the \
         same",
    ),
    plain(
        "features.allow",
        "FIREFLOW_FEATURES__ALLOW",
        "the features of the release before",
        "which features of rules may be written, by name, with commas between them: an older version \
         cannot read a policy that uses one it does not know. Raise it once no older version is to \
         come back. This version has no features yet",
    ),
    plain(
        "retention.deleted",
        "FIREFLOW_RETENTION__DELETED",
        "90d",
        "how long what was deleted can be restored, before it is removed",
    ),
    plain(
        "http.base_path",
        "FIREFLOW_HTTP__BASE_PATH",
        "/",
        "a path prefix that routes, docs, links and `Location` obey",
    ),
    plain(
        "metrics_listen",
        "FIREFLOW_METRICS_LISTEN",
        "",
        "address and port of a listener that serves `/metrics` without a token: of a network that only \
         machines of yours reach; `/metrics` of the service itself takes the role `health_check`",
    ),
    Setting {
        key: "otlp.endpoint",
        variable: "FIREFLOW_OTLP_ENDPOINT",
        aliases: &["FIREFLOW_OTLP__ENDPOINT"],
        default: "",
        about: "where traces go, by OTLP: `http://collector:4317`, or `https://…`",
        is_secret: false,
    },
    plain(
        "otlp.protocol",
        "FIREFLOW_OTLP__PROTOCOL",
        "grpc",
        "`grpc`, or `http`, for which the endpoint is the base URL: `http://collector:4318`",
    ),
    plain(
        "otlp.sample_ratio",
        "FIREFLOW_OTLP__SAMPLE_RATIO",
        "0.1",
        "which part of requests is traced, from 0 to 1; what a client has sampled, by `traceparent`, \
         always is",
    ),
    Setting {
        key: "otlp.headers",
        variable: "FIREFLOW_OTLP__HEADERS",
        aliases: &[],
        default: "",
        about: "headers for the collector, such as its key: `name=value,name=value`",
        is_secret: true,
    },
    Setting {
        key: "sentry_dsn",
        variable: "FIREFLOW_SENTRY_DSN",
        aliases: &[],
        default: "",
        about: "the project to which defects are reported, of Sentry or what speaks its protocol: \
                `https://KEY@HOST/PROJECT`",
        is_secret: true,
    },
    plain("log", "FIREFLOW_LOG", "info", "what to log, in tracing's filter syntax"),
    plain(
        "log_format",
        "FIREFLOW_LOG_FORMAT",
        "`pretty` on a terminal, else `json`",
        "`pretty` or `json`",
    ),
];

/// The settings as `--help` lists them.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(
        "Settings come from the environment, over fireflow.toml (or --config FILE), over defaults.\n\
         In the file the keys nest: FIREFLOW_HTTP__BASE_PATH is `base_path` below [http].\n",
    );
    for setting in SETTINGS {
        let Setting { variable, default, about, is_secret, .. } = setting;
        let default =
            if default.is_empty() { String::new() } else { format!(" [default: {default}]") };
        let file = if *is_secret {
            format!("\n      or from a file: {variable}_FILE")
        } else {
            String::new()
        };
        // Writing to a string cannot fail.
        let _written = write!(text, "\n  {variable}{default}\n      {about}{file}").is_ok();
    }
    text
}
