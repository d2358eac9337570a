//! What to write into a policy so that a denied operation is allowed.

use std::net::{IpAddr, Ipv6Addr};

use enforcer_common::verdict::Reason;

use super::decode::{Event, Object};
use crate::policy::{question::Question, suggest};

/// The lines, each with its table. `None` if nothing that a policy can say would help.
#[must_use]
pub fn suggest(event: &Event) -> Option<String> {
    if event.reason == Reason::Protected {
        return None;
    }
    let lines: Vec<String> = suggest::suggest(&question(event)?).iter().map(ToString::to_string).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// The request that led to the event. `None` if it was not told what was asked.
fn question(event: &Event) -> Option<Question> {
    Some(match &event.object {
        Object::Name(name) => Question::object(name.clone(), event.needed).ok()?,
        Object::Content(_, known) if known.is_nothing() => return None,
        Object::Content(name, known) => Question::content(name.clone(), *known).ok()?,
        Object::Unnamed(name) => {
            Question::Unnamed { name: name.clone(), why: event.reason, needed: event.needed }
        }
        Object::Memory => Question::AnonymousExec,
        Object::Address { address, port, flow } => Question::Address {
            address: IpAddr::V6(Ipv6Addr::from(*address)).to_canonical(),
            port: *port,
            flow: *flow,
        },
        Object::Socket { family, raw } => Question::Socket { family: *family, raw: *raw },
        Object::Privilege(privilege) => Question::Privilege(*privilege),
    })
}

#[cfg(test)]
mod tests {
    use enforcer_common::{event::ObjectKind, hook::Privilege, net::Flow, net::v4_mapped};

    use super::*;
    use crate::events::decode::{decode, tests as samples};

    #[test]
    fn lines_to_write() {
        let named = samples::header();
        let mut address = named;
        address.object = ObjectKind::Address.code();
        address.address = v4_mapped([192, 0, 2, 1]);
        address.detail = Flow::TCP_CONNECT.0;
        address.port = 443;
        let mut privilege = named;
        privilege.object = ObjectKind::Privilege.code();
        privilege.detail = Privilege::Mount.code().into();
        let table = [
            (named, "[file] read = [\"/etc/shadow\"]"),
            (address, "[network] connect = [\"tcp 192.0.2.1:443\"]"),
            (privilege, "[privileges] allow = [\"mount\"]"),
        ];
        for (header, expected) in table {
            let event = decode(&samples::record(&header, b"/usr/bin/cat", b"/etc/shadow")).unwrap();
            assert_eq!(suggest(&event).as_deref(), Some(expected));
        }
    }
}
