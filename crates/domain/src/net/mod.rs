//! The addresses, ports and protocols of rules and packets. Each value has one canonical spelling,
//! and values are compared, not spellings.

pub mod address;
pub mod port;
pub mod protocol;

pub use address::{AddressRange, Family, ParseAddressError};
pub use port::{ParsePortError, PortRange};
pub use protocol::{ParseProtocolError, Protocol, Protocols};
