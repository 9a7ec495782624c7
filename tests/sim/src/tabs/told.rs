//! What each tab's application is told and answered: everything that saves told since it is there, once and in their order.

use hongyan_client::Answer;

use super::Word;
use crate::faults::Fault;
use crate::world::World;

/// Saves of which the cache keeps what they told, as in the SDK's.
const KEPT_MAX: usize = 64;
/// Longer than notes, the fall of a lock and a new leader's beginning take together.
const SETTLED_MS: u64 = 5_000;

/// What the saves of a cache told.
#[derive(Clone)]
pub(crate) struct TabLog {
    /// All that told something: number, when it was durable, and what.
    told: Vec<(u64, u64, Vec<u64>)>,
    /// Before this one nothing is kept.
    kept_from: usize,
}

impl Default for TabLog {
    fn default() -> Self {
        Self { told: vec![(0, 0, Vec::new())], kept_from: 0 }
    }
}

impl TabLog {
    pub(crate) fn save(&mut self, number: u64, now: u64, told: Vec<u64>, clears: bool) {
        if clears {
            self.kept_from = self.told.len();
        }
        if !told.is_empty() {
            self.told.push((number, now, told));
        }
        self.kept_from = self.kept_from.max(self.told.len().saturating_sub(KEPT_MAX));
    }

    /// What the last saves told.
    pub(crate) fn kept(&self) -> Vec<(u64, Vec<Word>)> {
        let kept = self.told[self.kept_from..].iter();
        kept.map(|(save, _, ids)| (*save, ids.iter().copied().map(Word::Told).collect())).collect()
    }

    fn words(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> {
        self.told.iter().flat_map(|(_, at, ids)| ids.iter().map(move |id| (*at, *id)))
    }

    /// The last word.
    pub(super) fn last(&self) -> Option<u64> {
        self.words().next_back().map(|(_, id)| id)
    }

    fn has(&self, told: u64) -> bool {
        self.words().any(|(_, id)| id == told)
    }

    /// What comes after this; `None` when that is not there or is the last.
    fn after(&self, told: u64) -> Option<u64> {
        self.words().skip_while(|(_, id)| *id != told).nth(1).map(|(_, id)| id)
    }
}

impl World {
    /// A tab's application is told something.
    pub(super) fn tab_told(&mut self, index: usize, id: u64, word: &Word) {
        let Word::Told(word) = *word else { return };
        let device = &self.devices[index];
        let Some(browser) = &device.browser else { return };
        let Some(tab) = browser.tabs.get(&id) else { return };
        // Of a leader whose cache was in memory and is gone its last notes may come late.
        let gone = browser.gone.iter().find(|(term, log)| *term == tab.machine.term() && log.has(word));
        let log = gone.map_or(&device.cache().log, |(_, log)| log);
        let (before, is_durable) = (tab.told, log.has(word));
        let next = before.map(|before| log.after(before));
        if !is_durable || next.is_some_and(|next| next != Some(word)) {
            return self.broke(
                "R2",
                format!("tab {id} of device {index}, told {before:?}, is told {next:?} of what saves told"),
                format!("it is told {word}, durable: {is_durable}"),
            );
        }
        let browser = self.browser(index);
        let (leads, said) = (browser.leader == Some(id), browser.said);
        if leads {
            browser.said = said.max(word);
        }
        let is_last_word = leads && word > said && self.devices[index].client.is_none();
        if is_last_word && std::mem::take(&mut self.browser(index).unsaid) {
            self.mattered(Fault::LastWordLost);
        }
        if let Some(tab) = self.tab(index, id) {
            tab.told = Some(word);
        }
    }

    /// A frozen tab is back.
    pub(super) fn tab_is_back(&mut self, index: usize, id: u64) {
        let last = self.devices[index].cache().log.last();
        if self.tab(index, id).is_some_and(|tab| tab.frozen && tab.told.is_some() && tab.told != last) {
            self.mattered(Fault::TabFrozen);
        }
    }

    /// A tab's application is told that it missed something.
    pub(super) fn tab_missed(&mut self, index: usize, id: u64) {
        let log = &self.devices[index].cache().log;
        let told = self.devices[index].browser.as_ref().and_then(|browser| browser.tabs.get(&id)?.told);
        let is_kept =
            told.is_some_and(|told| log.told[log.kept_from..].iter().any(|(.., ids)| ids.contains(&told)));
        let Some(tab) = self.tab(index, id) else { return };
        tab.told = None;
        if is_kept {
            return self.broke(
                "R2",
                format!("tab {id} of device {index} is told everything, since it is kept"),
                "it is told that it missed something",
            );
        }
        self.mattered(Fault::TabMissed);
    }

    /// A tab's application is answered.
    pub(super) fn tab_settled(&mut self, index: usize, id: u64, request: u64, result: Result<Word, Word>) {
        let Some(text) = self.tab(index, id).and_then(|tab| tab.asked.remove(&request)) else {
            return self.broke(
                "R6",
                format!("each ask of tab {id} of device {index} is answered once"),
                format!("{request} twice, or unasked"),
            );
        };
        match result {
            Ok(Word::Sent(message)) => self.watch_send_answered(index, &text, Ok(Answer::Sent(*message))),
            Err(Word::Failed(error)) => self.watch_send_answered(index, &text, Err(error)),
            _ => self.broke("R6", "a send is answered as sent or failed", format!("{text} is not")),
        }
    }

    /// At the end, when everything is quiet: no tab lacks anything.
    pub(crate) fn judge_tabs(&mut self) {
        for index in 0..self.devices.len() {
            let device = &self.devices[index];
            let Some(browser) = &device.browser else { continue };
            let last = device.cache().log.words().next_back();
            let lacks = browser.tabs.iter().find(|(_, tab)| match (tab.told, last, tab.follows) {
                (Some(told), Some((_, last)), _) => told != last,
                (None, Some((at, _)), Some((_, since))) => since + SETTLED_MS < at,
                _ => false,
            });
            if let Some((id, tab)) = lacks {
                let happened = format!("it was told {:?}", tab.told);
                let expected =
                    format!("tab {id} of device {index} is told all that saves told, up to {last:?}");
                return self.broke("R2", expected, happened);
            }
        }
    }
}
