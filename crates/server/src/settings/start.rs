//! The settings that a first start may need, and that others depend on.

use std::net::SocketAddr;
use std::str::FromStr;

use super::row::DefaultValue::Text;
use super::row::Mark::Protects;
use super::row::settings;

/// The environment that the service runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Environment {
    /// A developer's machine.
    Local,
    /// A rehearsal of production.
    Staging,
    /// Production.
    Production,
}

impl Environment {
    /// The environment's name in the setting.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }
}

impl FromStr for Environment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "local" => Ok(Self::Local),
            "staging" => Ok(Self::Staging),
            "production" => Ok(Self::Production),
            _ => Err("must be `local`, `staging` or `production`".to_owned()),
        }
    }
}

settings! {
    /// The settings that a first start may need.
    pub(super) struct Start, rows START: StartRows;

    START_SECTION {
        /// `local`, `staging` or `production`; only `local` generates its own secret
        environment: Environment = "environment" [Protects] {
            parse: str::parse,
            default: Text("local"),
        }

        /// the address and port to listen on; port 0 picks a free one and prints it
        listen: SocketAddr = "listen" {
            parse: |text| text.parse().map_err(|_| {
                "must be an address and a port: `127.0.0.1:8080`, `[::]:8080`".to_owned()
            }),
            default: Text("127.0.0.1:8080"),
        }
    }
}
