//! Frames as lines of the report.

use hongyan_protocol::wire::{self, client_frame::Verb, relay_frame};

/// A frame of the relay, for the report.
pub(crate) fn told(event: &relay_frame::Event) -> String {
    match event {
        relay_frame::Event::Welcome(welcome) => format!("welcome, head {}", welcome.head),
        relay_frame::Event::Batch(batch) => {
            let pos = |entry: Option<&wire::Entry>| entry.map_or(0, |entry| entry.pos);
            format!("{}…{} of {}", pos(batch.entries.first()), pos(batch.entries.last()), batch.head)
        }
        relay_frame::Event::Reset(reset) => format!("reset to {}", reset.pos),
        relay_frame::Event::Snapshot(snapshot) => format!("a snapshot, done: {}", snapshot.done),
        relay_frame::Event::Sent(sent) => format!("sent {} of {}", sent.seq, sent.conversation),
        relay_frame::Event::MarkedRead(read) => format!("read {} of {}", read.seq, read.conversation),
        relay_frame::Event::Reject(reject) => format!("reject {}: {}", reject.code, reject.reason),
        relay_frame::Event::Retire(_) => "retire".into(),
        relay_frame::Event::HistoryPage(page) => {
            format!("a page of {} messages of {}", page.messages.len(), page.conversation)
        }
        relay_frame::Event::GroupDone(done) => {
            format!("{} is at version {}", done.conversation, done.version)
        }
        relay_frame::Event::Renewed(_) => "renewed".into(),
        relay_frame::Event::MemberPage(_) => "a page of members".into(),
        relay_frame::Event::Watched(watched) => format!("{} presences", watched.presences.len()),
        relay_frame::Event::Presence(presence) => {
            format!("{} is {}", presence.user, presence.status().as_str_name())
        }
        relay_frame::Event::Typed(typed) => format!("{} types in {}", typed.user, typed.conversation),
        relay_frame::Event::DeviceList(list) => format!("{} devices", list.devices.len()),
        relay_frame::Event::SignedOut(_) => "signed out".into(),
        relay_frame::Event::Invisible(invisible) => format!("invisible: {}", invisible.invisible),
        relay_frame::Event::LogHeads(heads) => {
            let heads = heads.heads.iter().map(|head| format!("{} at {}", head.conversation, head.last_seq));
            format!("logs: {}", heads.collect::<Vec<_>>().join(", "))
        }
        relay_frame::Event::LogMessages(news) => {
            let first =
                news.messages.first().map_or((String::new(), 0), |it| (it.conversation.clone(), it.seq));
            format!("{} messages of the log of {} from {}", news.messages.len(), first.0, first.1)
        }
        relay_frame::Event::LogChanges(news) => {
            let first = news.changes.first().map_or(0, |change| change.number);
            format!("{} changes in {} from {first}", news.changes.len(), news.conversation)
        }
        relay_frame::Event::ChangePage(page) => {
            let first = page.changes.first().map_or(0, |change| change.number);
            format!("a page of {} changes in {} from {first}", page.changes.len(), page.conversation)
        }
        relay_frame::Event::MessageChanged(changed) => {
            let message = changed.message.as_ref();
            message.map_or("changed".into(), |it| format!("changed {} of {}", it.seq, it.conversation))
        }
        relay_frame::Event::ProfileSet(set) => {
            format!("set version {}", set.profile.as_ref().map_or(0, |profile| profile.version))
        }
        relay_frame::Event::ProfileList(list) => {
            let profiles = list.profiles.iter().map(|it| format!("{} at {}", it.user, it.version));
            format!("profiles: {}", profiles.collect::<Vec<_>>().join(", "))
        }
        relay_frame::Event::Ping(_) => "ping".into(),
        relay_frame::Event::Pong(_) => "pong".into(),
    }
}

/// A frame of a device, for the report; what is written is told where it is written.
pub(crate) fn said(verb: &Verb) -> Option<String> {
    match verb {
        Verb::Hello(hello) => Some(format!("hello, cursor {} of {:?}", hello.cursor, hello.epoch)),
        Verb::Resume(resume) => Some(format!("resume from {}", resume.cursor)),
        Verb::Ack(ack) => Some(format!("ack {}", ack.cursor)),
        Verb::MarkRead(mark) => Some(format!("mark {} of {}", mark.seq, mark.conversation)),
        Verb::Send(send) => Some(format!("send to {}", send.conversation)),
        Verb::Changes(changes) => {
            Some(format!("changes of {} after {}", changes.conversation, changes.after))
        }
        Verb::Bye(bye) if bye.logout => Some("bye, and logs out".into()),
        Verb::Bye(bye) => Some(format!("bye, back in {} ms, certainly: {}", bye.returns_in_ms, bye.returns)),
        Verb::SetAway(away) => Some(format!("away: {}", away.away)),
        Verb::SetProfile(set) => Some(format!("shows {:?} {:?}", set.name, set.avatar)),
        Verb::GetProfiles(get) => {
            let known = get.users.iter().map(|it| format!("{} after {}", it.user, it.version));
            Some(format!("profiles of {}", known.collect::<Vec<_>>().join(", ")))
        }
        Verb::Watch(watch) => Some(format!("watch {:?}", watch.users)),
        Verb::Unwatch(unwatch) => Some(format!("unwatch {:?}", unwatch.users)),
        Verb::Typing(typing) => Some(format!("types in {}", typing.conversation)),
        _ => None,
    }
}
