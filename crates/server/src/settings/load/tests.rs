use fireflow_auth::Secret;

use super::*;

fn sources(pairs: &[(&str, &str)], file: Option<&str>) -> Sources {
    Sources {
        environment: pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        file: file.map(|text| ("fireflow.toml".to_owned(), text.to_owned())),
        is_terminal: false,
        processors: 2,
    }
}

fn fault(pairs: &[(&str, &str)], file: Option<&str>) -> String {
    load(&sources(pairs, file)).unwrap_err().to_string()
}

const SECRET: &str = "6f1c0f4b9a52e7d83c41b7a0f95e26d8c3b47a19e05f82d6417c9be8a3d05f72";

#[test]
fn nothing_has_to_be_set_for_a_local_service() {
    let Loaded { settings, warnings } = load(&sources(&[], None)).unwrap();
    assert_eq!(settings.environment, Environment::Local);
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
    assert!(settings.migrate_on_start && settings.tokens.secrets.is_empty());
    assert_eq!(settings.max_connections, 8);
    assert!(warnings.is_empty());
}

#[test]
fn postgresql_has_connections_for_each_class_of_work() {
    let url = ("FIREFLOW_DATABASE_URL", "postgres://me@db/fireflow");
    assert_eq!(load(&sources(&[url], None)).unwrap().settings.max_connections, 16);
    let with = |most| load(&sources(&[url, ("FIREFLOW_DATABASE__MAX_CONNECTIONS", most)], None));
    assert_eq!(with("6").unwrap().settings.max_connections, 6);
    let refused = with("5").unwrap_err();
    assert_eq!(refused.name, "FIREFLOW_DATABASE__MAX_CONNECTIONS");
    assert!(refused.why.contains("at least 6"), "{}", refused.why);
    // SQLite works with any number of readers.
    let few = [("FIREFLOW_DATABASE__MAX_CONNECTIONS", "1")];
    assert_eq!(load(&sources(&few, None)).unwrap().settings.max_connections, 1);
}

#[test]
fn the_environment_comes_before_the_file() {
    let file = "listen = \"127.0.0.1:1\"\n[http]\nbase_path = \"/ff/\"\nmax_in_flight = 7\n";
    let pairs = [("FIREFLOW_LISTEN", "127.0.0.1:2"), ("FIREFLOW_JWT__SECRET", "short")];
    let settings = load(&sources(&pairs, Some(file))).unwrap().settings;
    assert_eq!(settings.listen.port(), 2);
    assert_eq!(settings.http.base_path, "/ff");
    assert_eq!(settings.http.max_in_flight, 7);
    assert_eq!(settings.tokens.secrets, [Secret::new("short")]);
}

#[test]
fn what_counts_as_a_finding_can_be_set() {
    use fireflow_service::analyses::AnalysisSettings;
    let with = |pairs: &[(&str, &str)]| -> AnalysisSettings {
        load(&sources(pairs, None)).unwrap().settings.analysis.into()
    };
    let usual = with(&[]);
    assert_eq!((usual.services.len(), usual.thresholds), (16, Default::default()));
    let set = with(&[
        ("FIREFLOW_ANALYSIS__EXPOSED_SERVICES", "usual, winrm=tcp/5985-5986, udp/161, ssh"),
        ("FIREFLOW_ANALYSIS__EXPOSED_SOURCES", "0.9"),
        ("FIREFLOW_ANALYSIS__PERMISSIVE_IPV4", "0.01"),
        ("FIREFLOW_ANALYSIS__PERMISSIVE_IPV6", "1"),
    ]);
    let names: Vec<&str> = set.services.iter().skip(16).map(|it| &*it.name).collect();
    assert_eq!(names, ["winrm", "udp/161"], "ssh is one of the usual ones");
    let thresholds = set.thresholds;
    let shares = [thresholds.exposed_sources, thresholds.permissive_v4, thresholds.permissive_v6];
    assert_eq!(shares, [0.9, 0.01, 1.0]);
    let none = with(&[("FIREFLOW_ANALYSIS__EXPOSED_SERVICES", "none")]);
    assert_eq!(none.services, []);
}

#[test]
fn outside_local_what_protects_must_be_set() {
    let mut pairs = vec![("FIREFLOW_ENVIRONMENT", "production")];
    assert!(fault(&pairs, None).contains("FIREFLOW_JWT_SECRET"));
    pairs.push(("FIREFLOW_JWT_SECRET", "short"));
    assert!(fault(&pairs, None).contains("too short"));
    pairs.pop();
    pairs.push(("FIREFLOW_JWT_SECRET", SECRET));
    assert!(fault(&pairs, None).contains("FIREFLOW_JWT__ISSUER"));
    pairs.push(("FIREFLOW_JWT__ISSUER", "idp"));
    assert!(fault(&pairs, None).contains("FIREFLOW_JWT__AUDIENCE"));
    pairs.push(("FIREFLOW_JWT__AUDIENCE", "fireflow"));
    let settings = load(&sources(&pairs, None)).unwrap().settings;
    assert_eq!(settings.tokens.rules.max_lifetime_s, Some(86_400));
    assert!(!settings.migrate_on_start);
}

#[test]
fn what_is_wrong_is_named_with_what_is_right() {
    for (name, value) in [
        ("FIREFLOW_ENVIRONMENT", "prod"),
        ("FIREFLOW_LISTEN", "8080"),
        ("FIREFLOW_DATABASE_URL", "mysql://x"),
        ("FIREFLOW_DATABASE__MAX_CONNECTIONS", "0"),
        ("FIREFLOW_DATABASE__READ_URL", "postgres://replica/fireflow"),
        ("FIREFLOW_MIGRATE_ON_START", "yes"),
        ("FIREFLOW_JWT__MAX_LIFETIME", "1"),
        ("FIREFLOW_HTTP__LIST_TIMEOUT", "soon"),
        ("FIREFLOW_HTTP__BASE_PATH", "fireflow"),
        ("FIREFLOW_HTTP__RATE_LIMIT", "many"),
        ("FIREFLOW_HTTP__TRUSTED_PROXIES", "any"),
        ("FIREFLOW_HTTP__FORWARDED_HEADER", "x-real-ip"),
        ("FIREFLOW_HTTP__CORS_ORIGINS", "*"),
        ("FIREFLOW_HTTP__MAX_HEAD_BYTES", "100"),
        ("FIREFLOW_MEMORY__WORK_BYTES", "1000000"),
        ("FIREFLOW_ANALYSIS__EXPOSED_SERVICES", "ssh, gopherd"),
        ("FIREFLOW_ANALYSIS__EXPOSED_SERVICES", "icmp/8"),
        ("FIREFLOW_ANALYSIS__EXPOSED_SOURCES", "0"),
        ("FIREFLOW_ANALYSIS__PERMISSIVE_IPV4", "25%"),
        ("FIREFLOW_ANALYSIS__PERMISSIVE_IPV6", "1.5"),
        ("FIREFLOW_HTTP__IDLE_TIMEOUT", "30s"),
        ("FIREFLOW_JWT__LEEWAY", "1h"),
        ("FIREFLOW_JWT__ROLE_MAP", "a=root"),
        ("FIREFLOW_JWT__ROLE_MAP", ","),
        ("FIREFLOW_JWT__REQUIRE_TENANTS", "yes"),
        ("FIREFLOW_JWT_SECRET_FILE", "/dev/null"),
        ("FIREFLOW_TLS__KEY", "key.pem"),
        ("FIREFLOW_RETENTION__DELETED", "never"),
        ("FIREFLOW_LOG", "=="),
        ("FIREFLOW_LOG_FORMAT", "xml"),
        ("FIREFLOW_JWT_SECRET_FILE", "/does/not/exist"),
    ] {
        let fault = fault(&[(name, value)], None);
        assert!(fault.starts_with(&format!("{name}: ")), "{fault}");
    }
    assert!(fault(&[], Some("lisen = \"x\"")).contains("did you mean `listen`?"));
    assert!(fault(&[], Some("listen = [1]")).contains("must be a string"));
    assert!(fault(&[], Some("= 1")).starts_with("fireflow.toml: "));
    // The message for a file that is not TOML has the line and the key, but not the value.
    let text = "listen = \"127.0.0.1:8080\"\n\n[jwt]\nsecret = hunter2\n";
    let told = fault(&[], Some(text));
    assert!(told.starts_with("fireflow.toml: line 4: secret: is not valid TOML: "), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    // A misspelt level is not taken for a target, of which nothing would be logged.
    for (filter, hint) in [
        ("inof", "`info`"),
        ("warning", "`warn`"),
        ("sqlx=warn,tarce", "`trace`"),
        ("sqlx", "sqlx=debug"),
    ] {
        let told = fault(&[("FIREFLOW_LOG", filter)], None);
        assert!(told.contains(hint), "{filter}: {told}");
    }
    for good in ["INFO", "warn,fireflow=debug", "fireflow", "sqlx::query=info", "off"] {
        assert!(load(&sources(&[("FIREFLOW_LOG", good)], None)).is_ok(), "{good}");
    }
    let twice = [("FIREFLOW_JWT_SECRET", "a"), ("FIREFLOW_JWT__SECRET", "b")];
    assert!(fault(&twice, None).contains("cannot be combined with"));
}

#[test]
fn extremes_are_taken_or_refused_by_name() {
    let numbers = "0 1 -1 +1 1e9 10000 10001 1000000000 1000000001 4294967295 4294967296 \
                   18446744073709551615 18446744073709551616 -9223372036854775808 0x1f 1_000 ١";
    let durations = "0s 1s -1s 36600d 3162240000s 3162240001s 18446744073709551615s \
                     213503982334601d 18446744073709551616d 0d NaNs infs";
    let rates = "0/s 1/h -1/s 4294967295/s 4294967296/s 1/0s";
    let values = [numbers, durations, rates].map(str::split_whitespace);
    for value in values.into_iter().flatten() {
        for Setting { variable, .. } in SETTINGS {
            if let Err(fault) = load(&sources(&[(variable, value)], None)) {
                assert!(fault.name.contains(variable), "{variable}={value}: {fault}");
                assert!(fault.why.len() > 10, "{variable}={value}: {fault}");
            }
        }
    }
    for (variable, value, takes) in [
        ("FIREFLOW_DATABASE__MAX_CONNECTIONS", "1000000000", "from 1 to 10000"),
        ("FIREFLOW_HTTP__MAX_CONNECTIONS", "0", "from 1 to 1000000000"),
        ("FIREFLOW_HTTP__STOP_TIMEOUT", "0s", "a number with a unit"),
    ] {
        let fault = fault(&[(variable, value)], None);
        assert!(fault.contains(takes), "{fault}");
    }
}

#[test]
fn what_protects_is_never_empty() {
    for name in [
        "FIREFLOW_ENVIRONMENT",
        "FIREFLOW_DATABASE_URL",
        "FIREFLOW_DATABASE__READ_URL",
        "FIREFLOW_JWT_SECRET",
        "FIREFLOW_JWT__SECRET",
        "FIREFLOW_JWT__PUBLIC_KEYS",
        "FIREFLOW_JWT__ISSUER",
        "FIREFLOW_JWT__AUDIENCE",
        "FIREFLOW_JWT__MAX_LIFETIME",
        "FIREFLOW_JWT__ROLES_CLAIM",
        "FIREFLOW_JWT__ROLE_MAP",
        "FIREFLOW_JWT__REQUIRE_TENANTS",
        "FIREFLOW_JWT__REVOKED_FILE",
        "FIREFLOW_TLS__CERTIFICATE",
        "FIREFLOW_TLS__KEY",
    ] {
        for value in ["", "  "] {
            let fault = fault(&[(name, value)], None);
            assert_eq!(fault, format!("{name}: is empty: set it, or leave it out"));
        }
    }
    assert!(fault(&[], Some("environment = \"\"")).contains("environment: is empty"));
    // A file without secrets still counts as set, even if there are public keys.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "# none\n").unwrap();
    let pairs = [
        ("FIREFLOW_JWT_SECRET_FILE", path.to_str().unwrap()),
        ("FIREFLOW_JWT__PUBLIC_KEYS", "/keys"),
    ];
    assert_eq!(fault(&pairs, None), "FIREFLOW_JWT_SECRET_FILE: contains no secret");
    std::fs::write(&path, "\n").unwrap();
    assert!(fault(&pairs, None).starts_with("FIREFLOW_JWT_SECRET_FILE: is empty"));
    // Other settings fall back to their defaults, because Compose passes unset variables on as
    // empty.
    let pairs = [("FIREFLOW_LISTEN", ""), ("FIREFLOW_LOG", ""), ("FIREFLOW_OTLP_ENDPOINT", "")];
    assert!(load(&sources(&pairs, None)).is_ok());
}

#[cfg(unix)]
#[test]
fn variables_that_are_not_text_are_named_and_never_left_out() {
    use std::os::unix::ffi::OsStringExt;
    let ask = |name: &[u8], value: &[u8]| {
        let pair = [name, value].map(|bytes| OsString::from_vec(bytes.to_vec()));
        environment([pair.into()])
    };
    let fault = |name: &[u8], value: &[u8]| ask(name, value).unwrap_err().to_string();
    assert_eq!(
        fault(b"FIREFLOW_ENVIRONMENT", b"production\xff"),
        "FIREFLOW_ENVIRONMENT: the value is not valid UTF-8"
    );
    for name in ["FIREFLOW_JWT__REVOKED_FILE", "FIREFLOW_JWT_SECRET_FILE", "FIREFLOW_MADE_UP"] {
        assert!(fault(name.as_bytes(), b"/etc/\xe9").starts_with(&format!("{name}: the value")));
    }
    assert!(fault(b"FIREFLOW_LISTEN\xff", b"x").contains("the name is not valid UTF-8"));
    // Variables of other programs may have any value.
    for name in [b"PATH".as_slice(), b"FIREFLOW_PORT_80", b"FIREFLOW_TEST_X", b"\xff"] {
        assert_eq!(ask(name, b"\xff").unwrap(), []);
    }
    let pair = ("FIREFLOW_LOG".to_owned(), "d\u{e9}bug".to_owned());
    assert_eq!(ask(b"FIREFLOW_LOG", "d\u{e9}bug".as_bytes()).unwrap(), [pair]);
}

#[test]
fn the_role_map_is_a_table_in_the_file() {
    use fireflow_domain::actor::Role;
    let file = "[jwt]\nroles_claim = \"groups\"\n[jwt.role_map]\n\
                \"CN=fw, admins,DC=x\" = \"admin\"\nops = [\"editor\", \"health_check\"]\n\
                \"a.b\" = \"viewer\"\n";
    for text in [file.to_owned(), format!("\u{feff}{file}")] {
        let rules = load(&sources(&[], Some(&text))).unwrap().settings.tokens.rules;
        let map = rules.role_map.unwrap();
        assert_eq!(map.roles_of("CN=fw, admins,DC=x"), [Role::Admin]);
        assert_eq!(map.roles_of("ops"), [Role::Editor, Role::HealthCheck]);
        assert_eq!(map.roles_of("a.b"), [Role::Viewer]);
        assert_eq!(rules.roles_claim, "groups");
    }
    // The environment replaces the whole map.
    let pairs = [("FIREFLOW_JWT__ROLE_MAP", r#"{"CN=x, y": "viewer"}"#)];
    let rules = load(&sources(&pairs, Some(file))).unwrap().settings.tokens.rules;
    let map = rules.role_map.unwrap();
    assert_eq!(map.roles_of("CN=x, y"), [Role::Viewer]);
    assert!(map.roles_of("ops").is_empty());
    for (bad, word) in [
        ("[jwt.role_map]\n", "names no group"),
        ("[jwt.role_map]\na = \"root\"\n", "`root` is not a role"),
        ("[jwt.role_map]\na = 1\n", "a role must be a text"),
        ("[jwt.role_map.a]\nb = \"admin\"\n", "a role must be a text"),
        ("[jwt]\nrole_map = [\"a=admin\"]\n", "must be a string"),
    ] {
        let fault = fault(&[], Some(bad));
        assert!(fault.starts_with("fireflow.toml: jwt.role_map: "), "{fault}");
        assert!(fault.contains(word), "{fault}");
    }
    let old = "[jwt]\nrole_map = \"ops=editor\"\n";
    assert!(load(&sources(&[], Some(old))).is_ok(), "a text is taken too");
}

#[test]
fn weak_secrets_of_a_local_service_are_taken_with_a_warning() {
    let pairs = [("FIREFLOW_JWT_SECRET", "short")];
    let warnings = load(&sources(&pairs, None)).unwrap().warnings;
    assert!(warnings[0].starts_with("FIREFLOW_JWT_SECRET is too short"), "{warnings:?}");
    let pairs = [("FIREFLOW_JWT_SECRET", SECRET)];
    assert!(load(&sources(&pairs, None)).unwrap().warnings.is_empty());
}

#[test]
fn limits_of_policies_are_set_in_their_bounds() {
    let usual = load(&sources(&[], None)).unwrap().settings.policy_limits;
    assert_eq!((usual.rules, usual.entries), (200_000, 1_000_000));
    let pairs =
        [("FIREFLOW_LIMITS__MAX_RULES", "7"), ("FIREFLOW_LIMITS__MAX_ENTRIES", "100000000")];
    let set = load(&sources(&pairs, None)).unwrap().settings.policy_limits;
    assert_eq!((set.rules, set.entries), (7, 100_000_000));
    for (name, bad) in [
        ("FIREFLOW_LIMITS__MAX_RULES", "0"),
        ("FIREFLOW_LIMITS__MAX_RULES", "10000001"),
        ("FIREFLOW_LIMITS__MAX_ENTRIES", "many"),
    ] {
        let fault = fault(&[(name, bad)], None);
        assert!(fault.starts_with(&format!("{name}: must be a number from 1 to")), "{fault}");
    }
}

#[test]
fn features_are_allowed_by_name_and_there_is_none_yet() {
    for none in ["", " , "] {
        let pairs = [("FIREFLOW_FEATURES__ALLOW", none)];
        let settings = load(&sources(&pairs, None)).unwrap().settings;
        assert!(settings.allowed_features.is_empty());
    }
    let fault = fault(&[("FIREFLOW_FEATURES__ALLOW", "conditions")], None);
    let why = "`conditions` is not a feature of this version: it has none yet";
    assert_eq!(fault, format!("FIREFLOW_FEATURES__ALLOW: {why}"));
}

#[test]
fn unknown_variables_warn_but_kubernetes_own_do_not() {
    let pairs = [
        ("FIREFLOW_LISEN", "x"),
        ("FIREFLOW_SERVICE_HOST", "10.0.0.1"),
        ("FIREFLOW_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("FIREFLOW_TEST_POSTGRES_URL", "postgres://x"),
        ("HOME", "/root"),
    ];
    let warnings = load(&sources(&pairs, None)).unwrap().warnings;
    assert_eq!(warnings, ["FIREFLOW_LISEN is not a setting; did you mean FIREFLOW_LISTEN?"]);
}

#[test]
fn secrets_come_from_files_and_are_shown_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, format!("# new\n{SECRET}\n\nold-{SECRET}\n")).unwrap();
    let name = path.to_str().unwrap();
    let url = "postgres://me:hunter2@db/fireflow";
    let pairs = [("FIREFLOW_JWT_SECRET_FILE", name), ("FIREFLOW_DATABASE_URL", url)];
    let mut pairs = pairs.to_vec();
    let read_url = "postgres://me:hunter2@replica/fireflow";
    pairs.push(("FIREFLOW_DATABASE__READ_URL", read_url));
    let settings = load(&sources(&pairs, None)).unwrap().settings;
    assert_eq!(settings.tokens.secrets.len(), 2);
    assert!(settings.read_url.is_some());
    let shown = format!("{settings:?}");
    assert!(!shown.contains(SECRET) && !shown.contains("hunter2"), "{shown}");
}
