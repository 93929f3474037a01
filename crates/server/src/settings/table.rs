use std::fmt::Write;

/// A setting: its names, its default and its documentation.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its key in the file; a dot separates a table from its key.
    pub key: &'static str,
    /// Its name in the environment.
    pub variable: &'static str,
    /// Other names for it in the environment.
    pub aliases: &'static [&'static str],
    /// Its default, as the documentation shows it; empty for none.
    pub default: &'static str,
    /// What it does, as the documentation shows it.
    pub about: &'static str,
    /// Whether its value must never be shown. Such a setting can also come from a file: `…_FILE`.
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
        "`local`, `staging` or `production`; only `local` generates its own secret",
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
        about: "a read replica of the PostgreSQL database: lists are read there and may be \
                slightly stale; if it is unavailable, lists read the primary",
        is_secret: true,
    },
    plain(
        "database.max_connections",
        "FIREFLOW_DATABASE__MAX_CONNECTIONS",
        "4 per CPU, at least 16 on PostgreSQL",
        "the most connections, up to 10000: on PostgreSQL in total, at least 6, and as many again \
         to a read replica; on SQLite the connections that read single resources",
    ),
    plain(
        "database.acquire_timeout",
        "FIREFLOW_DATABASE__ACQUIRE_TIMEOUT",
        "5s",
        "the longest wait for a turn and a connection at the database, and of a connection for an \
         answer; then 503",
    ),
    plain(
        "database.write_group",
        "FIREFLOW_DATABASE__WRITE_GROUP",
        "64",
        "the most writes that share a transaction and a disk sync on SQLite; with 1, each write \
         has its own",
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
        default: "in `local` one is generated in .fireflow/",
        about: "HS256 secret; outside `local` a generated secret of 32 bytes or more (`openssl \
                rand -hex 32`); the file may have several secrets, one per line: the first signs, \
                all verify; lines that begin with `#` are comments",
        is_secret: true,
    },
    plain(
        "jwt.public_keys",
        "FIREFLOW_JWT__PUBLIC_KEYS",
        "",
        "a file with public keys for RS256, ES256 and Ed25519: a JWKS, or PEM blocks; reloaded \
         when it changes",
    ),
    plain(
        "jwt.issuer",
        "FIREFLOW_JWT__ISSUER",
        "",
        "the required `iss` of tokens; must be set outside `local`",
    ),
    plain(
        "jwt.audience",
        "FIREFLOW_JWT__AUDIENCE",
        "",
        "the required `aud` of tokens; must be set outside `local`",
    ),
    plain(
        "jwt.max_lifetime",
        "FIREFLOW_JWT__MAX_LIFETIME",
        "24h outside `local`, else none",
        "tokens with a longer lifetime are refused",
    ),
    plain(
        "jwt.leeway",
        "FIREFLOW_JWT__LEEWAY",
        "10s",
        "the tolerated clock difference for `exp`, `nbf` and `iat` of a token; at most 5m",
    ),
    plain(
        "jwt.roles_claim",
        "FIREFLOW_JWT__ROLES_CLAIM",
        "roles",
        "the claim with the roles, an array, or a text with spaces between them: a name such as \
         `scope`, \
         or a dotted path such as `realm_access.roles`",
    ),
    plain(
        "jwt.role_map",
        "FIREFLOW_JWT__ROLE_MAP",
        "",
        "maps the identity provider's groups to roles: `fw-admins=admin,fw-operators=editor`; for \
         names with commas use a JSON object, or a table `[jwt.role_map]` in the file: \
         `\"CN=fw, admins\" = \"admin\"`; if it is set, no other name is a role",
    ),
    plain(
        "jwt.require_tenants",
        "FIREFLOW_JWT__REQUIRE_TENANTS",
        "false",
        "whether a token without the claim `tenants` is refused instead of having access to all \
         tenants; recommended if firewalls have tenants",
    ),
    plain(
        "jwt.revoked_file",
        "FIREFLOW_JWT__REVOKED_FILE",
        "",
        "a file of revoked tokens, one per line: `jti ID`, or `sub SUBJECT UNTIL` for all tokens \
         issued to a subject up to an instant; reloaded when it changes",
    ),
    plain(
        "http.max_body_bytes",
        "FIREFLOW_HTTP__MAX_BODY_BYTES",
        "10485760",
        "the largest request body, in bytes",
    ),
    plain(
        "http.max_rule_set_bytes",
        "FIREFLOW_HTTP__MAX_RULE_SET_BYTES",
        "67108864",
        "the largest body of a whole rule set, in bytes",
    ),
    plain(
        "http.request_timeout",
        "FIREFLOW_HTTP__REQUEST_TIMEOUT",
        "30s",
        "the longest time until an answer",
    ),
    plain(
        "http.list_timeout",
        "FIREFLOW_HTTP__LIST_TIMEOUT",
        "5s",
        "the longest time that a page of a list may take in the database; a slower list is \
         refused, and its filter must be narrowed",
    ),
    plain(
        "http.max_in_flight",
        "FIREFLOW_HTTP__MAX_IN_FLIGHT",
        "1024",
        "the most requests served at once; more are refused with 503 and `Retry-After`",
    ),
    plain(
        "memory.work_bytes",
        "FIREFLOW_MEMORY__WORK_BYTES",
        "268435456",
        "how much memory all requests together may take, 33554432 bytes or more: bodies and their \
         parsed form, policies during compilation, unsent answers, exports and streams. One \
         subject may take half of it. If it is used up, requests wait for 5 s, then are refused \
         with 503 and `Retry-After`",
    ),
    plain(
        "inspection.cache_bytes",
        "FIREFLOW_INSPECTION__CACHE_BYTES",
        "268435456",
        "roughly how much memory compiled policies take; a policy of 100,000 rules takes roughly \
         100 MB, and a policy that does not fit is compiled for each inspection",
    ),
    plain(
        "inspection.max_boxes",
        "FIREFLOW_INSPECTION__MAX_BOXES",
        "4000000",
        "the most combinations of entries, over all rules, for which a policy is compiled; above \
         it, each packet is compared with each rule",
    ),
    plain(
        "inspection.max_bytes",
        "FIREFLOW_INSPECTION__MAX_BYTES",
        "134217728",
        "the most memory for compiling a policy, in addition to its rules; above it, each packet \
         is compared with each rule. This memory counts towards `memory.work_bytes`",
    ),
    plain(
        "inspection.max_time",
        "FIREFLOW_INSPECTION__MAX_TIME",
        "5s",
        "the longest time for compiling a policy; above it, each packet is compared with each rule",
    ),
    plain(
        "http.max_connections",
        "FIREFLOW_HTTP__MAX_CONNECTIONS",
        "8192",
        "the most connections at once; more wait to be accepted. If the process cannot open so \
         many files, it accepts fewer and logs a warning",
    ),
    plain(
        "http.max_head_bytes",
        "FIREFLOW_HTTP__MAX_HEAD_BYTES",
        "65536",
        "the largest head of a request (path and headers), in bytes; a cursor alone can have 32768",
    ),
    plain(
        "http.head_timeout",
        "FIREFLOW_HTTP__HEAD_TIMEOUT",
        "10s",
        "how long a request's head, a TLS handshake, or the next piece of a body may take",
    ),
    plain(
        "http.idle_timeout",
        "FIREFLOW_HTTP__IDLE_TIMEOUT",
        "75s",
        "how long a connection may be without progress in either direction; must be longer than \
         the request timeout",
    ),
    plain(
        "http.rate_limit",
        "FIREFLOW_HTTP__RATE_LIMIT",
        "1000/s",
        "how many requests are accepted per subject: `100/s`, `6000/m`, or `off`",
    ),
    plain(
        "http.address_rate_limit",
        "FIREFLOW_HTTP__ADDRESS_RATE_LIMIT",
        "2000/s",
        "how many requests are accepted per client address (IPv6: per /64), before the token is \
         checked; behind a proxy it requires FIREFLOW_HTTP__TRUSTED_PROXIES, or all clients count \
         as one",
    ),
    plain(
        "http.trusted_proxies",
        "FIREFLOW_HTTP__TRUSTED_PROXIES",
        "",
        "networks of proxies that are trusted to name the client: `10.0.0.0/8,fd00::/8`",
    ),
    plain(
        "http.forwarded_header",
        "FIREFLOW_HTTP__FORWARDED_HEADER",
        "x-forwarded-for",
        "the header that names the client: `x-forwarded-for` or `forwarded`; the other one is \
         ignored",
    ),
    plain(
        "http.cors_origins",
        "FIREFLOW_HTTP__CORS_ORIGINS",
        "",
        "origins whose pages may read answers in browsers: `https://console.example.org`; without \
         origins, CORS is off",
    ),
    plain(
        "http.drain_delay",
        "FIREFLOW_HTTP__DRAIN_DELAY",
        "0s in `local`, else 3s",
        "how long requests are still accepted after the stop signal, while `/health/ready` is 503",
    ),
    plain(
        "http.stop_timeout",
        "FIREFLOW_HTTP__STOP_TIMEOUT",
        "10s",
        "how long the rest of the stop may take. Requests in progress have all of it except the \
         last fifth (at most 2s), in which remaining traces and defects are sent and the \
         database's connections are closed",
    ),
    plain(
        "tls.certificate",
        "FIREFLOW_TLS__CERTIFICATE",
        "",
        "a file with the certificate and its chain, in PEM; if set, FireFlow terminates TLS; \
         reloaded when it changes",
    ),
    plain(
        "tls.key",
        "FIREFLOW_TLS__KEY",
        "",
        "the file with the certificate's private key, in PEM; reloaded when it changes",
    ),
    plain(
        "limits.max_rules",
        "FIREFLOW_LIMITS__MAX_RULES",
        "200000",
        "the most live rules of a policy, up to 10000000; a policy that has more keeps them, but \
         accepts no more",
    ),
    plain(
        "limits.max_entries",
        "FIREFLOW_LIMITS__MAX_ENTRIES",
        "1000000",
        "the most source, destination and port entries of a policy's live rules, up to 100000000; a \
         policy that has more keeps them, but accepts no more",
    ),
    plain(
        "features.allow",
        "FIREFLOW_FEATURES__ALLOW",
        "the features of the release before",
        "which features of rules may be written, by name, separated by commas: an older version \
         cannot read a policy that uses a feature it does not know. Add features once no rollback to \
         an older version is planned. This version has no features yet",
    ),
    plain(
        "retention.deleted",
        "FIREFLOW_RETENTION__DELETED",
        "90d",
        "how long deleted resources can be restored before they are removed permanently",
    ),
    plain(
        "http.base_path",
        "FIREFLOW_HTTP__BASE_PATH",
        "/",
        "a path prefix of routes, docs, links and `Location`",
    ),
    plain(
        "metrics_listen",
        "FIREFLOW_METRICS_LISTEN",
        "",
        "address and port of a listener that serves `/metrics` without a token: restrict it to \
         your own network; `/metrics` of the service itself requires the role `health_check`",
    ),
    Setting {
        key: "otlp.endpoint",
        variable: "FIREFLOW_OTLP_ENDPOINT",
        aliases: &["FIREFLOW_OTLP__ENDPOINT"],
        default: "",
        about: "the OTLP endpoint for traces: `http://collector:4317`, or `https://…`",
        is_secret: false,
    },
    plain(
        "otlp.protocol",
        "FIREFLOW_OTLP__PROTOCOL",
        "grpc",
        "`grpc`, or `http` with the base URL as endpoint: `http://collector:4318`",
    ),
    plain(
        "otlp.sample_ratio",
        "FIREFLOW_OTLP__SAMPLE_RATIO",
        "0.1",
        "the share of requests that is traced, from 0 to 1; a request that its client has sampled \
         (`traceparent`) is always traced",
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
        about: "the DSN of the project that receives defects, of Sentry or a compatible service: \
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

/// What `--help` says of settings: those that a first start may need.
pub const SHORT_HELP: &str = "\
Settings are environment variables, or keys of fireflow.toml. The first ones to know:
  FIREFLOW_LISTEN        address and port [default: 127.0.0.1:8080]
  FIREFLOW_DATABASE_URL  sqlite://FILE or postgres://… [default: sqlite://fireflow.db]
  FIREFLOW_ENVIRONMENT   local, staging or production [default: local]
  FIREFLOW_JWT_SECRET    the secret of tokens [default: generated in `local`]
`fireflow --help settings` lists all.";

/// All settings, as `--help settings` lists them.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(
        "The environment takes precedence over fireflow.toml (or --config FILE), and the file over \
         defaults.\nIn the file the keys nest: FIREFLOW_HTTP__BASE_PATH is `base_path` below [http].\n",
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
