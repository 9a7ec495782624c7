//! Presence in the world of a relay core: watching, and what is seen.

use super::*;

/// The relay's clock is so far ahead of the world's.
const EPOCH: u64 = 1_700_000_000_000;

impl<S: Store> World<S> {
    /// The relay's clock.
    pub fn time(&self) -> u64 {
        EPOCH + self.now
    }

    /// Asks to watch, and gives how they are.
    pub fn watch(&mut self, connection: ConnectionId, users: &[&str]) -> Vec<wire::Presence> {
        match self.call(connection, watch(users)) {
            Event::Watched(watched) => watched.presences,
            event => panic!("not watched but {}", name(&event)),
        }
    }

    /// What was pushed to a watcher since it was last asked; everything else is left out.
    pub fn pushed(&mut self, connection: ConnectionId) -> Vec<wire::Presence> {
        let presence = |event| match event {
            Event::Presence(presence) => Some(presence),
            _ => None,
        };
        self.take(connection).into_iter().filter_map(presence).collect()
    }

    /// The same, as [`seen`] tells it.
    pub fn saw(&mut self, connection: ConnectionId) -> Vec<String> {
        self.pushed(connection).iter().map(seen).collect()
    }

    /// A hello that is taken, with a change to the usual one.
    pub fn greet(
        &mut self,
        user: &str,
        device: &str,
        change: impl FnOnce(&mut wire::Hello),
    ) -> (ConnectionId, wire::Welcome) {
        let connection = self.open();
        let mut hello = hello(user, device);
        change(&mut hello);
        match self.call(connection, Verb::Hello(hello)) {
            Event::Welcome(welcome) => (connection, welcome),
            event => panic!("not welcome but {}", name(&event)),
        }
    }

    /// Bob watches alice, and may; the world's time is beyond the recovery.
    pub fn bob_watches_alice(&mut self) -> ConnectionId {
        let bob = self.login("bob", "b");
        self.send(bob, &direct("alice", "bob"), "first", "hello");
        self.wait_alive(bob, 30_000);
        self.watch(bob, &["alice"]);
        self.take(bob);
        bob
    }

    /// Lets time pass in which a client answers every ping.
    pub fn wait_alive(&mut self, connection: ConnectionId, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.pass((end - self.now).min(1_000));
            self.frame(connection, 0, Verb::Pong(wire::Pong::default()));
        }
    }

    /// The socket ends, and nobody said why.
    pub fn cut(&mut self, connection: ConnectionId) {
        self.input(Input::Closed(connection));
    }
}

/// A status and its cause in a word or two, and the devices' in brackets if there are several.
pub fn seen(presence: &wire::Presence) -> String {
    let mut text = words(presence.status(), presence.cause());
    if presence.refused {
        text += " refused";
    }
    if presence.devices.len() > 1 {
        let devices: Vec<_> =
            presence.devices.iter().map(|device| words(device.status(), device.cause())).collect();
        text = format!("{text} ({})", devices.join(", "));
    }
    text
}

fn words(status: wire::PresenceStatus, cause: wire::PresenceCause) -> String {
    let lower = |name: &str, prefix: &str| name.strip_prefix(prefix).unwrap().to_lowercase();
    let status = lower(status.as_str_name(), "PRESENCE_STATUS_");
    match lower(cause.as_str_name(), "PRESENCE_CAUSE_").as_str() {
        "unspecified" => status,
        cause => format!("{status} {}", cause.replace('_', "-")),
    }
}

pub fn watch(users: &[&str]) -> Verb {
    Verb::Watch(wire::Watch { users: users.iter().map(|user| (*user).into()).collect() })
}

pub fn unwatch(users: &[&str]) -> Verb {
    Verb::Unwatch(wire::Unwatch { users: users.iter().map(|user| (*user).into()).collect() })
}

pub fn set_away(away: bool) -> Verb {
    Verb::SetAway(wire::SetAway { away })
}

pub fn bye(returns_in_ms: u32, returns: bool) -> Verb {
    Verb::Bye(wire::Bye { logout: false, returns_in_ms, returns })
}

pub fn beacon(ticket: &Bytes, returns_in_ms: u32, returns: bool) -> Input {
    let bye = Some(wire::Bye { logout: false, returns_in_ms, returns });
    Input::Goodbye(wire::Beacon { ticket: ticket.clone(), bye }.encode_to_vec().into())
}
