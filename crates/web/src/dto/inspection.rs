//! Packets in requests.

use poem_openapi::Object;

/// A packet to inspect.
#[derive(Debug, Object)]
#[oai(rename = "Packet", example, skip_serializing_if_is_none)]
pub struct PacketBody {
    /// The source address.
    pub source_address: String,
    /// The source port; refused if the protocol has no ports. If it is omitted or null, the port is
    /// unknown: the packet is evaluated with each port from 49152 to 65535, and the response has
    /// `ports_assumed`.
    #[oai(validator(minimum(value = "0"), maximum(value = "65535")))]
    pub source_port: Option<u16>,
    /// The destination address.
    pub destination_address: String,
    /// The destination port; required if the protocol has ports, otherwise refused.
    #[oai(validator(minimum(value = "0"), maximum(value = "65535")))]
    pub destination_port: Option<u16>,
    /// The protocol, by name or number; omitted: tcp.
    pub protocol: Option<String>,
    /// The ICMP type; omitted: echo request.
    #[oai(validator(minimum(value = "0"), maximum(value = "255")))]
    pub icmp_type: Option<u8>,
    /// The ICMP code; omitted: 0.
    #[oai(validator(minimum(value = "0"), maximum(value = "255")))]
    pub icmp_code: Option<u8>,
    /// The packet's time, RFC 3339; omitted: now.
    pub at: Option<String>,
}

impl poem_openapi::types::Example for PacketBody {
    fn example() -> Self {
        Self {
            source_address: "10.1.2.3".into(),
            source_port: Some(40_000),
            destination_address: "198.51.100.10".into(),
            destination_port: Some(443),
            protocol: Some("tcp".into()),
            icmp_type: None,
            icmp_code: None,
            at: None,
        }
    }
}
