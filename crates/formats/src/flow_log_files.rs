//! Files of flow logs, in all their dialects.

use std::io::BufRead;

use fireflow_domain::net::Protocol;
use fireflow_domain::packet::GivenPacket;
use fireflow_domain::time::Instant;

use crate::flow_log::{Flow, FlowLog, FlowReader};
use crate::format::{
    Assumed, FileError, FileReader, Format, Holds, PacketFault, PacketRecord, PacketVisitor,
    Recognized, Sample,
};

pub(crate) const FORMAT: Format = Format {
    names: &[
        "an AWS VPC flow log",
        "Zeek's conn.log",
        "a table whose header names the addresses and the protocol",
    ],
    rules: &[],
    rules_in_short: &[],
    packets: &["flow logs (AWS VPC, Zeek's conn.log)", "a table with a header"],
    samples: &[
        Sample {
            name: "AWS VPC flow log",
            text: "2 1 eni-1 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1418530010 1418530070 \
                   ACCEPT OK\n",
            holds: Holds::Packets(1),
        },
        Sample {
            name: "AWS VPC flow log",
            text: "version srcaddr dstaddr srcport dstport protocol start tcp-flags log-status\n\
                   5 10.0.0.1 10.0.0.2 1 2 6 1418530010 18 OK\n\
                   5 2001:db8::1 2001:db8::2 1 2 6 1 2 OK\n",
            // The first record is an answer, which is skipped.
            holds: Holds::Packets(1),
        },
        Sample {
            name: "Zeek conn.log",
            text: "#separator \\x09\n#unset_field\t-\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\
                   \tid.resp_p\tproto\n1300475167.096535\t10.0.0.1\t8\t10.0.0.2\t0\ticmp\n#close\n",
            holds: Holds::Packets(1),
        },
        Sample {
            name: "table",
            text: "at,src_ip,dst_ip,protocol,icmp_type,icmp_code\n\
                   2026-01-01T00:00:00Z,\"2001:db8::1\",::1,58,1,\n",
            holds: Holds::Packets(1),
        },
    ],
    recognize,
};

fn recognize(first: &[u8]) -> Recognized {
    Ok(match FlowLog::detect(first)? {
        Some(log) => Some(Box::new(log)),
        None => None,
    })
}

impl FileReader for FlowLog {
    fn name(&self) -> &'static str {
        self.style().as_str()
    }

    fn packets(
        &self,
        input: &mut dyn BufRead,
        now: Instant,
        visit: PacketVisitor<'_>,
    ) -> Result<(), FileError> {
        let (has_types, has_flags) = (self.has_icmp_types(), self.has_tcp_flags());
        for record in FlowReader::new(input, self.clone(), now) {
            let record = record?;
            let read = match record.flow {
                Ok(Flow::Packet(parts)) => {
                    let assumed = Assumed {
                        icmp_type: !has_types && parts.protocol.is_icmp(),
                        tcp_flags: !has_flags && parts.protocol == Protocol::TCP,
                    };
                    let packet = GivenPacket::new(parts).map_err(PacketFault::from);
                    PacketRecord::Packet(packet, assumed)
                }
                Ok(Flow::Skipped(why)) => PacketRecord::Skipped(why),
                Err(fault) => PacketRecord::packet(Err(fault)),
            };
            if visit(record.line, read).is_break() {
                break;
            }
        }
        Ok(())
    }
}
