//! Equivalence of rules: a stable hash over the canonical spelling.

use sha2::{Digest, Sha256};

use super::model::{Criteria, Endpoint, RuleParts};

/// The version of the encoding, its first byte. A field that is added later enters the hash only
/// if it differs from its default, so that the version can stay.
const VERSION: u8 = 1;

/// The hash of what makes two rules of a policy equivalent: action, protocols, ICMP fields, and the
/// *sets* of source, destination and port entries in canonical spelling.
///
/// It is SHA-256 over the version byte and length-prefixed fields (big endian, 32 bits), so it is
/// the same in every process and on every architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of a rule's content. Costs a sort of its entries.
    #[must_use]
    pub fn of(parts: &RuleParts) -> Self {
        // Two rules that match the same packets and do the same with them are equal, even if one of
        // them is switched off.
        let Criteria { protocols, icmp_type, icmp_code, sources, destinations, ports } =
            Criteria::of(parts);
        let mut hash = Sha256::new();
        hash.update([VERSION]);
        field(&mut hash, parts.action.as_str());
        set(&mut hash, protocols.iter().map(ToString::to_string));
        optional(&mut hash, icmp_type);
        optional(&mut hash, icmp_code);
        set(&mut hash, sources.iter().map(spell));
        set(&mut hash, destinations.iter().map(spell));
        set(&mut hash, ports.iter().map(ToString::to_string));
        Self(hash.finalize().into())
    }

    /// In hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn spell(entry: &Endpoint) -> String {
    match entry.port {
        Some(port) => format!("{} {port}", entry.address),
        None => entry.address.to_string(),
    }
}

fn length(hash: &mut Sha256, length: usize) {
    // Limits keep every length far below 2^32.
    hash.update(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

fn field(hash: &mut Sha256, text: &str) {
    length(hash, text.len());
    hash.update(text.as_bytes());
}

fn optional(hash: &mut Sha256, number: Option<u8>) {
    field(hash, &number.map(|number| number.to_string()).unwrap_or_default());
}

fn set(hash: &mut Sha256, spellings: impl Iterator<Item = String>) {
    let mut spellings: Vec<String> = spellings.collect();
    spellings.sort_unstable();
    spellings.dedup();
    length(hash, spellings.len());
    for spelling in &spellings {
        field(hash, spelling);
    }
}
