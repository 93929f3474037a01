//! The chains of the audit trail. Each event carries the hash of the event before it in its chain,
//! and its own hash over all its content. To alter, remove or insert one event, an attacker must
//! also alter every later event, and every head of the chain that was recorded elsewhere.
//!
//! There is one chain for each policy, with the events of its rules, and one for each firewall. The
//! writers of a chain hold the lock of its policy or firewall anyway.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::error::Resource;
use crate::ids::{FirewallId, PolicyId};

/// The chain that an event is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Chain {
    /// The events of a firewall itself.
    Firewall(FirewallId),
    /// The events of a policy and its rules.
    Policy(PolicyId),
}

impl Chain {
    /// The kind of the resource that it belongs to.
    #[must_use]
    pub const fn resource(self) -> Resource {
        match self {
            Self::Firewall(_) => Resource::Firewall,
            Self::Policy(_) => Resource::Policy,
        }
    }

    /// The id of that resource.
    #[must_use]
    pub const fn id(self) -> i64 {
        match self {
            Self::Firewall(id) => id.get(),
            Self::Policy(id) => id.get(),
        }
    }

    /// The chain of a kind of resource and an id, as the log names them; none if that kind has no
    /// chain.
    #[must_use]
    pub fn parse(resource: &str, id: i64) -> Option<Self> {
        match Resource::parse(resource)? {
            Resource::Firewall => FirewallId::new(id).map(Self::Firewall),
            Resource::Policy => PolicyId::new(id).map(Self::Policy),
            Resource::Rule => None,
        }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource().as_str(), self.id())
    }
}

/// The version of the encoding, the first byte of each hash.
const VERSION: u8 = 1;
/// Separates these hashes from all others (domain separation).
const LABEL: &str = "fireflow audit event";
/// The label of the hashes that chains begin with.
const GENESIS_LABEL: &str = "fireflow audit genesis";

/// How many bytes a hash has: the encoding's version, and SHA-256.
const BYTES: usize = 33;

/// The hash of an event, or of the start of a chain: the encoding's version and a SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventHash([u8; BYTES]);

impl EventHash {
    /// The predecessor of the first event of a chain. It marks whether the chain begins with the
    /// creation of its resource, or later because the resource is older than the chains are.
    #[must_use]
    pub fn genesis(chain: Chain, begins_with_creation: bool) -> Self {
        let mut encoding = Encoding::new(GENESIS_LABEL);
        encoding.chain(chain);
        encoding.text(if begins_with_creation { "created" } else { "continued" });
        encoding.finish()
    }

    /// The hash of an event. Costs a pass over its states.
    #[must_use]
    pub fn of(event: &ChainedEvent<'_>) -> Self {
        // No `..`: the compiler demands a decision here for each new field.
        let ChainedEvent {
            chain,
            sequence,
            predecessor,
            at,
            subject,
            request_id,
            client_address,
            reason,
            action,
            resource,
            resource_id,
            firewall_id,
            policy_id,
            tenant,
            former_tenant,
            before,
            after,
        } = *event;
        let mut encoding = Encoding::new(LABEL);
        encoding.chain(chain);
        encoding.number(sequence);
        encoding.bytes(&predecessor.0);
        encoding.number(at);
        for text in [subject, request_id, client_address, reason, action, resource] {
            encoding.text(text);
        }
        encoding.number(resource_id);
        encoding.number(firewall_id);
        encoding.optional(policy_id.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
        for text in [tenant, former_tenant, before, after] {
            encoding.optional(text.map(str::as_bytes));
        }
        encoding.finish()
    }

    /// The stored form.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; BYTES] {
        &self.0
    }

    /// Reads the stored form, which a newer version may have written; none if it is no hash.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Whether this version knows its encoding, so that it can recompute the hash.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.0.first() == Some(&VERSION)
    }

    /// The form in the log and the API: 66 hexadecimal digits, of which the first two are the
    /// version.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads the form that [`Self::to_hex`] writes; none if it is no hash.
    #[must_use]
    pub fn parse(hex: &str) -> Option<Self> {
        if hex.len() != 2 * BYTES || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; BYTES];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Self::from_bytes(&bytes)
    }
}

impl fmt::Debug for EventHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// The head of a chain: its last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The event's place in the chain, from 1.
    pub sequence: i64,
    /// The event's hash.
    pub hash: EventHash,
}

/// The hashed content of an event, as it is stored. The id is not part of it, since the database
/// assigns it.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "each is the column of the same name, and `action` is `deed`")]
pub struct ChainedEvent<'a> {
    pub chain: Chain,
    pub sequence: i64,
    pub predecessor: &'a EventHash,
    pub at: i64,
    pub subject: &'a str,
    pub request_id: &'a str,
    pub client_address: &'a str,
    pub reason: &'a str,
    pub action: &'a str,
    pub resource: &'a str,
    pub resource_id: i64,
    pub firewall_id: i64,
    pub policy_id: Option<i64>,
    pub tenant: Option<&'a str>,
    pub former_tenant: Option<&'a str>,
    pub before: Option<&'a str>,
    pub after: Option<&'a str>,
}

/// The canonical encoding, hashed as it is made. It has the version, then each field with its
/// length (64 bits) before it. Numbers have 64 bits, and all is big endian. A byte 0 or 1 precedes
/// each optional field.
struct Encoding(Sha256);

impl Encoding {
    fn new(label: &str) -> Self {
        let mut encoding = Self(Sha256::new());
        encoding.0.update([VERSION]);
        encoding.text(label);
        encoding
    }

    fn bytes(&mut self, bytes: &[u8]) {
        // A length in memory fits.
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.0.update(length.to_be_bytes());
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn number(&mut self, number: i64) {
        self.bytes(&number.to_be_bytes());
    }

    fn optional(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            None => self.0.update([0]),
            Some(bytes) => {
                self.0.update([1]);
                self.bytes(bytes);
            }
        }
    }

    fn chain(&mut self, chain: Chain) {
        self.text(chain.resource().as_str());
        self.number(chain.id());
    }

    fn finish(self) -> EventHash {
        let mut hash = [VERSION; BYTES];
        for (byte, digest) in hash.iter_mut().skip(1).zip(self.0.finalize()) {
            *byte = digest;
        }
        EventHash(hash)
    }
}
