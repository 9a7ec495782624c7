//! The core in the tab that leads: as the driver of the SDK begins it, feeds it and ends it.

use hongyan_client::tabs::TabInput;
use hongyan_client::{
    self as client, Answer, ChatError, Command, Event, HostEvent, Input, Output, RequestId,
};

use super::{TabHappening, Word};
use crate::device::Saving;
use crate::faults::Fault;
use crate::world::{Happening, World};

/// Requests of tabs are numbered from here on; the others are of the world itself.
pub(crate) const OF_TABS: u64 = 1 << 40;
/// Longer than a note and the fall of a lock take.
const KNOWN_MS: u64 = 3_000;

/// The end of a save tells it; it was told when the save was prepared.
pub(crate) fn is_of_a_save(event: &Event) -> bool {
    !matches!(event, Event::State(_) | Event::Presence(_) | Event::Typing { .. })
}

impl World {
    /// The cache is open: the core runs here.
    pub(super) fn tab_leads(&mut self, index: usize, id: u64) {
        if self.browser(index).lock != Some(id) || self.tab(index, id).is_none_or(|tab| tab.frozen) {
            return;
        }
        if self.browser(index).leader == Some(id) {
            // It was opened for an earlier lead of this tab already.
            return;
        }
        if let Some(other) = self.browser(index).leader {
            // Its saves fail from now on.
            self.tab_input(index, other, TabInput::Deposed);
        }
        let now = self.now;
        let browser = self.browser(index);
        (browser.leader, browser.led_since) = (Some(id), now);
        let term = self.takes_cache(index);
        let kept = self.devices[index].disk.log.kept();
        self.note(|| format!("device {index}: tab {id} leads"));
        self.tab_input(index, id, TabInput::Opened { term, kept });
        self.core_starts(index);
    }

    /// The core is given what a tab asked.
    pub(super) fn tab_performs(&mut self, index: usize, id: u64, number: u64, word: Word) {
        let Word::Send(send) = word else { return };
        if self.browser(index).leader != Some(id) {
            return;
        }
        self.note(|| format!("device {index}: tab {id} gives the core {}", send.content.text));
        self.browser(index).performing.insert(number, send.content.text.clone());
        // A tab that has not heard that its message was refused asks again: as when a person does, it is the newest now.
        if self.watch.sends.get(&send.content.text).is_some_and(|sending| sending.refused) {
            self.is_newest(index, &send.content.text);
        }
        let command = Command::Send {
            conversation: send.conversation,
            key: Some(send.key),
            content: send.content,
            reply_to: send.reply_to,
            mentions: send.mentions,
        };
        self.device_input(index, Input::Command(RequestId(OF_TABS + number), command));
    }

    /// The core answers that.
    pub(crate) fn tab_performed(&mut self, index: usize, number: u64, answer: Result<Answer, ChatError>) {
        let browser = self.browser(index);
        browser.performing.remove(&number);
        let Some(leader) = browser.leader else { return };
        let result = match answer {
            Ok(Answer::Sent(message)) => Ok(Word::Sent(Box::new(message))),
            Ok(_) => return self.broke("R6", "a send is answered as sent", "it is answered otherwise"),
            Err(error) => Err(Word::Failed(error)),
        };
        self.tab_input(index, leader, TabInput::Performed(number, result));
    }

    /// The core is about to save, and says what the end of that will tell.
    pub(crate) fn tab_prepares(&mut self, index: usize, events: Vec<Event>) {
        let browser = self.browser(index);
        let Some(leader) = browser.leader else { return };
        let first = browser.words + 1;
        browser.words += events.len() as u64;
        let words = (first..=browser.words).map(Word::Told).collect();
        self.devices[index].preparing.extend((first..).zip(events));
        self.tab_input(index, leader, TabInput::Prepare(words));
    }

    /// The core tells something of the moment.
    pub(crate) fn tab_moment(&mut self, index: usize) {
        if let Some(leader) = self.browser(index).leader {
            self.tab_input(index, leader, TabInput::Event(Word::Moment));
        }
    }

    /// The number of the save that begins.
    pub(crate) fn tab_save(&mut self, index: usize) -> u64 {
        let leader = self.browser(index).leader;
        leader.and_then(|leader| self.tab(index, leader)).map_or(0, |tab| tab.machine.save())
    }

    /// A save is durable: what its end tells is told by whoever leads then.
    pub(crate) fn tab_saved(&mut self, index: usize) {
        let now = self.now;
        let device = &mut self.devices[index];
        let Some(Saving { number, tells, writes, .. }) = &mut device.saving else { return };
        let (number, tells) = (*number, std::mem::take(tells));
        let clears = writes.iter().any(|write| matches!(write, client::Write::Clear));
        let ids = tells.iter().map(|(id, _)| *id).collect();
        let cache = device.memory.as_mut().unwrap_or(&mut device.disk);
        cache.log.save(number, now, ids, clears);
        for (_, event) in tells {
            self.watch_event(index, event);
        }
    }

    /// This tab leads no more: what was accepted is saved, unless its page is killed meanwhile.
    pub(super) fn tab_retires(&mut self, index: usize, id: u64, goodbye: bool) {
        if self.browser(index).leader != Some(id) {
            return;
        }
        self.judge_goodbye(index, id, goodbye);
        if goodbye {
            self.host(index, HostEvent::Leave { returns_in_ms: 500, returns: false });
        }
        let life = (index, self.devices[index].life);
        let kept = !self.fault(Fault::SaveLost, 10);
        if kept {
            self.save_durable(life);
            let outputs: Vec<_> = match &mut self.devices[index].client {
                Some(core) => {
                    core.flush();
                    std::iter::from_fn(|| core.poll()).collect()
                }
                None => Vec::new(),
            };
            for output in outputs {
                match output {
                    Output::Prepare(events) => self.tab_prepares(index, events),
                    Output::Save(ticket, writes) => {
                        let number = self.tab_save(index);
                        let tells = std::mem::take(&mut self.devices[index].preparing);
                        self.devices[index].saving = Some(Saving::new(ticket, writes, number, tells));
                        self.save_durable(life);
                    }
                    _ => {}
                }
            }
            self.devices[index].saving = None;
            self.judge_outbox(index);
        }
        self.leader_is_gone(index, true);
    }

    /// R6: what the core was given is in the outbox when its tab has gone in good order.
    fn judge_outbox(&mut self, index: usize) {
        let device = &self.devices[index];
        if device.memory.is_some() || device.is_logged_out() {
            return;
        }
        let kept = device.disk.outbox();
        let performing = self.browser(index).performing.clone();
        let is_there = |text: &&String| {
            let sending = self.watch.sends.get(*text);
            kept.contains(*text) || sending.is_none_or(|it| it.acknowledged || it.refused || it.lost)
        };
        if let Some(lost) = performing.values().find(|text| !is_there(text)) {
            let lost = lost.clone();
            self.broke(
                "R6",
                format!("{lost}, which the leading tab of device {index} was given, is in the outbox"),
                "the tab has gone in good order, and it is not there",
            );
        }
    }

    /// Goodbye is said for the device: when its last tab goes, and only then.
    fn judge_goodbye(&mut self, index: usize, id: u64, goodbye: bool) {
        let now = self.now;
        let browser = self.browser(index);
        let term = browser.tabs.get(&id).map_or(0, |tab| tab.machine.term());
        let others = browser.tabs.iter().filter(|(other, tab)| **other != id && !tab.frozen);
        let follows = |tab: &super::Tab| {
            tab.follows.is_some_and(|(of, since)| of == term && since + KNOWN_MS < now)
                && tab.machine.term() == term
                && !tab.machine.is_outside()
        };
        let stays = others.clone().any(|(_, tab)| follows(tab));
        let gone_at = browser.gone_at;
        let (is_alone, is_settled) = (others.count() == 0, browser.led_since + KNOWN_MS < now);
        if goodbye && stays {
            return self.broke(
                "tabs",
                format!("tab {id} of device {index} says no goodbye, since another one stays"),
                "it does",
            );
        }
        if !goodbye && is_alone && is_settled && gone_at + KNOWN_MS < now {
            self.broke(
                "tabs",
                format!("tab {id} of device {index}, the last one, says goodbye"),
                "it does not",
            );
        }
    }

    /// The core ends with its tab.
    pub(super) fn leader_is_gone(&mut self, index: usize, tells: bool) {
        let unsaid = self.devices[index].cache().log.last() > Some(self.browser(index).said);
        self.browser(index).unsaid = unsaid;
        if unsaid {
            self.coverage.happened(Fault::LastWordLost);
        }
        let browser = self.browser(index);
        let leader = browser.leader.take();
        let others_wait =
            browser.tabs.iter().any(|(id, tab)| leader != Some(*id) && !tab.frozen && !tab.asked.is_empty());
        browser.performing.clear();
        let waits: Vec<String> = browser.tabs.values().flat_map(|tab| tab.asked.values()).cloned().collect();
        let unsure: Vec<bool> =
            waits.iter().map(|text| self.watch.sends.get(text).is_some_and(|it| it.unsure)).collect();
        let term = self.devices[index].disk.term;
        if let Some(log) = self.devices[index].memory.as_ref().map(|memory| memory.log.clone()) {
            self.note(|| format!("device {index}: what its cache held in memory is gone"));
            self.browser(index).gone.push((term, log));
        }
        self.core_ends(index, tells);
        // Whose tab lives asks again.
        for (text, unsure) in waits.iter().zip(unsure) {
            if let Some(sending) = self.watch.sends.get_mut(text) {
                sending.unsure = unsure;
            }
        }
        if others_wait {
            self.mattered(Fault::AskAgain);
        }
        self.schedule(self.now, Happening::Tab(index, 0, TabHappening::Lock));
    }
}
