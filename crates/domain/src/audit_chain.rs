//! The chains of the audit trail: each event carries the hash of the event before it in its chain, and
//! a hash of its own over all that it says. Who alters, removes or inserts one event would have to
//! alter every later one too, and every head of the chain that was noted elsewhere.
//!
//! There is a chain for each policy, with the events of its rules, and one for each firewall: the
//! writers of a chain hold its policy's or its firewall's lock anyway.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::error::Resource;
use crate::ids::{FirewallId, PolicyId};

/// Which chain an event is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Chain {
    /// Of what concerns a firewall itself.
    Firewall(FirewallId),
    /// Of what concerns a policy or its rules.
    Policy(PolicyId),
}

impl Chain {
    /// What kind of thing it belongs to.
    #[must_use]
    pub const fn resource(self) -> Resource {
        match self {
            Self::Firewall(_) => Resource::Firewall,
            Self::Policy(_) => Resource::Policy,
        }
    }

    /// The id of that thing.
    #[must_use]
    pub const fn id(self) -> i64 {
        match self {
            Self::Firewall(id) => id.get(),
            Self::Policy(id) => id.get(),
        }
    }

    /// The chain of a kind of thing and an id, as the log names it; none if there is no such chain.
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
/// What keeps these hashes apart from all others.
const LABEL: &str = "fireflow audit event";
/// The same for the hashes that chains begin with.
const GENESIS_LABEL: &str = "fireflow audit genesis";

/// How many bytes a hash has: the encoding's version, and SHA-256.
const BYTES: usize = 33;

/// The hash of an event, or of what comes before the first: the encoding's version and a SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventHash([u8; BYTES]);

impl EventHash {
    /// What the first event of a chain has for a predecessor. It marks whether the chain begins with
    /// the creation of its thing, or later, since that thing is older than the chains are.
    #[must_use]
    pub fn genesis(chain: Chain, begins_with_creation: bool) -> Self {
        let mut encoding = Encoding::new(GENESIS_LABEL);
        encoding.chain(chain);
        encoding.text(if begins_with_creation { "created" } else { "continued" });
        encoding.finish()
    }

    /// Of an event. Costs a pass over its states.
    #[must_use]
    pub fn of(event: &ChainedEvent<'_>) -> Self {
        // Without `..`: what is added to an event has to be decided here.
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

    /// As it is kept.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; BYTES] {
        &self.0
    }

    /// As it was kept, by a newer version perhaps; none if it is no hash.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Whether its encoding is known here, so that it can be computed anew.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.0.first() == Some(&VERSION)
    }

    /// As the log and the API spell it: 66 hexadecimal digits, the first two of them the version.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads that; none if it is no hash.
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

/// Where a chain ends: its last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its place, from 1.
    pub sequence: i64,
    /// Its hash.
    pub hash: EventHash,
}

/// All that an event says, as it is stored. Its id is no part of it: the database gives it.
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

/// The canonical encoding, hashed as it is made: the version, then each field with its length before
/// it (64 bits), numbers as 64 bits, all big endian; before an optional field a byte, 0 or 1.
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
