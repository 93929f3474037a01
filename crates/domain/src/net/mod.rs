//! Addresses, ports and protocols as rules and packets name them. Each type has one canonical
//! spelling, and equality is that of the values.

pub mod address;
pub mod port;
pub mod protocol;

pub use address::{AddressRange, Family, ParseAddressError};
pub use port::{ParsePortError, PortRange};
pub use protocol::{ParseProtocolError, Protocol, Protocols};
