//! The client core on a native machine: tokio is its clock, its socket and its cache's thread. Small enough that one
//! process runs thousands of them, so it is the load generator's engine, too.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hongyan_client::view::{Conversation, Message, SessionStatus, State};
use hongyan_client::{
    Answer, ChatError, Client, Command, Config, Event, Generation, HostEvent, Input, Moment, Now, Output,
    RequestId, Restored, Storage,
};
use hongyan_protocol::wire::{Content, DeviceKind};
use hongyan_protocol::{Code, ConversationId, Key, Seq, Time, UserId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{sleep_until, timeout};

use crate::cache::CacheStore;
use crate::connection::{self, ABNORMAL, Heard, Say};
use crate::meter::Meter;

/// Gives a token for the user, or says in words why not.
pub type TokenProvider = Arc<dyn Fn(&UserId) -> Result<String, String> + Send + Sync>;

/// What a host is made with.
pub struct Setup {
    /// Where the relay (or the proxy before it) listens.
    pub address: SocketAddr,
    /// The address from which it dials; the system's choice when there is none.
    pub source: Option<IpAddr>,
    /// Who logs in.
    pub user: UserId,
    /// Asked whenever the core needs one.
    pub token: TokenProvider,
    /// The device.
    pub cache: Box<dyn CacheStore>,
    /// Entropy of this start.
    pub seed: [u8; 32],
    /// Counts what the sockets do; clients may share it.
    pub meter: Arc<Meter>,
}

impl Setup {
    /// A client with chance from the system's hashing keys and a meter of its own.
    #[must_use]
    pub fn new(
        address: SocketAddr,
        user: UserId,
        token: TokenProvider,
        cache: impl CacheStore + 'static,
    ) -> Self {
        Self {
            address,
            source: None,
            user,
            token,
            cache: Box::new(cache),
            seed: seed(),
            meter: Arc::default(),
        }
    }
}

/// 32 bytes that differ at each call.
fn seed() -> [u8; 32] {
    use std::hash::{BuildHasher as _, RandomState};
    let mut seed = [0; 32];
    for part in seed.chunks_mut(8) {
        part.copy_from_slice(&RandomState::new().hash_one(0).to_le_bytes());
    }
    seed
}

/// A running client. It ends with [`Host::close`] as people close it, with [`Host::kill`] or by being dropped as a
/// crash ends it.
pub struct Host {
    user: UserId,
    orders: mpsc::UnboundedSender<Order>,
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

type Answered = oneshot::Sender<Result<Answer, ChatError>>;

enum Order {
    Command(Command, Answered),
    Host(HostEvent),
    /// The network ends the connection, without a word to the relay.
    Cut,
}

impl Host {
    /// Starts a client, within a tokio runtime. `on_event` hears everything that the core tells its application, in
    /// order.
    pub fn start(setup: Setup, on_event: impl FnMut(Event) + Send + 'static) -> Self {
        let (orders, orders_rx) = mpsc::unbounded_channel();
        let (heard, heard_rx) = mpsc::unbounded_channel();
        let config = Config {
            user: setup.user.clone(),
            device_kind: DeviceKind::Server,
            agent: concat!("hongyan-load/", env!("CARGO_PKG_VERSION")).into(),
            tab: String::new(),
            shared: false,
            storage: Storage::Host,
            gathered_entries: 0,
            seed: setup.seed,
        };
        let client = Client::new(config);
        let (told, state) = watch::channel(client.state());
        let engine = Engine {
            client,
            address: setup.address,
            source: setup.source,
            token: setup.token,
            meter: setup.meter,
            dialled: None,
            cache: setup.cache,
            on_event,
            told,
            heard,
            connection: None,
            answers: BTreeMap::new(),
            requests: 0,
        };
        let task = tokio::spawn(engine.run(orders_rx, heard_rx));
        Self { user: setup.user, orders, state, task }
    }

    /// As [`Host::start`], with the events in a channel.
    #[must_use]
    pub fn start_with_events(setup: Setup) -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (events, events_rx) = mpsc::unbounded_channel();
        let host = Self::start(setup, move |event| {
            let _ = events.send(event);
        });
        (host, events_rx)
    }

    /// Who logged in.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Connection and storage, as last told.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// The conversation with another user.
    ///
    /// # Panics
    /// When the name is no user id.
    #[must_use]
    pub fn direct(&self, peer: &str) -> ConversationId {
        ConversationId::direct(&self.user, &UserId::new(peer).expect("a user id"))
    }

    /// Waits until the client is online and has everything that was in its queue then.
    ///
    /// # Errors
    /// A sentence when that takes longer than `patience`, or can't be.
    pub async fn ready(&mut self, patience: Duration) -> Result<(), String> {
        let user = self.user.clone();
        let wait = self.state.wait_for(|state| {
            state.status == SessionStatus::Stopped || state.status == SessionStatus::Online && state.caught_up
        });
        let reason = match timeout(patience, wait).await.map(|waited| waited.map(|state| state.clone())) {
            Ok(Ok(state)) if state.status == SessionStatus::Online => return Ok(()),
            Ok(Ok(state)) => state.reason,
            Ok(Err(_)) => return Err(format!("{user}'s client has ended.")),
            Err(_) => self.state().reason,
        };
        Err(match reason {
            Some(reason) => format!("{user} can't connect: {reason}"),
            None => format!("{user} was not connected and caught up within {} s.", patience.as_secs()),
        })
    }

    /// As [`Host::ready`], for tests.
    ///
    /// # Panics
    /// When that takes longer than `patience`, or can't be.
    pub async fn caught_up(&mut self, patience: Duration) {
        if let Err(sentence) = self.ready(patience).await {
            panic!("{sentence} {:?}", self.state());
        }
    }

    /// What the host knows of itself: whether somebody looks, and the like.
    pub fn tell(&self, event: HostEvent) {
        let _ = self.orders.send(Order::Host(event));
    }

    /// The network ends the connection without a goodbye; the client comes back as it would.
    pub fn cut(&self) {
        let _ = self.orders.send(Order::Cut);
    }

    /// Any command. A client that ends meanwhile answers as closed.
    ///
    /// # Errors
    /// What the core says.
    pub async fn command(&self, command: Command) -> Result<Answer, ChatError> {
        self.begin(command).await.unwrap_or_else(|_| Err(ChatError::new(Code::CLOSED)))
    }

    fn begin(&self, command: Command) -> oneshot::Receiver<Result<Answer, ChatError>> {
        let (answer, answered) = oneshot::channel();
        let _ = self.orders.send(Order::Command(command, answer));
        answered
    }

    /// Sends a text; resolves when it is durable.
    ///
    /// # Errors
    /// When it is refused for good.
    pub async fn send(&self, conversation: &ConversationId, text: &str) -> Result<Message, ChatError> {
        self.send_with_key(conversation, text, None).await
    }

    /// Sends a text under a key of one's own.
    ///
    /// # Errors
    /// When it is refused for good.
    pub async fn send_with_key(
        &self,
        conversation: &ConversationId,
        text: &str,
        key: Option<Key>,
    ) -> Result<Message, ChatError> {
        match self.command(send(conversation, text, key)).await? {
            Answer::Sent(message) => Ok(message),
            _ => Err(ChatError::new(Code::BAD_FRAME)),
        }
    }

    /// Hands a text over to the outbox, and does not wait.
    pub fn post(&self, conversation: &ConversationId, text: &str) {
        drop(self.begin(send(conversation, text, None)));
    }

    /// A page of history, ascending.
    ///
    /// # Errors
    /// What the core says.
    pub async fn history(
        &self,
        conversation: &ConversationId,
        before: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<Message>, ChatError> {
        let command = Command::History { conversation: conversation.clone(), before, after: None, limit };
        match self.command(command).await? {
            Answer::History(messages) => Ok(messages),
            _ => Err(ChatError::new(Code::BAD_FRAME)),
        }
    }

    /// The whole log of a conversation, ascending, without what waits in the outbox.
    ///
    /// # Errors
    /// What the core says.
    pub async fn log(&self, conversation: &ConversationId) -> Result<Vec<Message>, ChatError> {
        let mut log: Vec<Message> = Vec::new();
        loop {
            let before = log.first().and_then(|message| message.seq);
            let mut page = self.history(conversation, before, 100).await?;
            page.retain(|message| message.seq.is_some());
            let reached = page.first().is_none_or(|message| message.seq == Some(Seq(1)));
            page.append(&mut log);
            log = page;
            if reached {
                return Ok(log);
            }
        }
    }

    /// The conversation list, newest first.
    ///
    /// # Errors
    /// What the core says.
    pub async fn conversations(&self) -> Result<Vec<Conversation>, ChatError> {
        match self.command(Command::Conversations { limit: 10_000, before: None }).await? {
            Answer::Conversations(conversations) => Ok(conversations),
            _ => Err(ChatError::new(Code::BAD_FRAME)),
        }
    }

    /// Everything up to the newest is read.
    ///
    /// # Errors
    /// What the core says.
    pub async fn mark_read(&self, conversation: &ConversationId) -> Result<(), ChatError> {
        let command = Command::MarkRead { conversation: conversation.clone(), seq: None };
        self.command(command).await.map(|_| ())
    }

    /// Makes a group.
    ///
    /// # Errors
    /// What the core says.
    ///
    /// # Panics
    /// When a name is no user id.
    pub async fn create_group(&self, title: &str, members: &[&str]) -> Result<ConversationId, ChatError> {
        match self
            .command(Command::CreateGroup { key: None, title: title.into(), members: users(members) })
            .await?
        {
            Answer::Group(conversation) => Ok(conversation),
            _ => Err(ChatError::new(Code::BAD_FRAME)),
        }
    }

    /// Says goodbye and waits for the end.
    pub async fn close(self) {
        let _ = self.command(Command::Close).await;
        // The goodbye is on its way in a task of its own by now.
    }

    /// Ends it as a crash does: in the middle of whatever it does, and without a word to anybody.
    pub fn kill(&self) {
        self.task.abort();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn send(conversation: &ConversationId, text: &str, key: Option<Key>) -> Command {
    Command::Send {
        conversation: conversation.clone(),
        key,
        content: Content { text: text.into(), ..Content::default() },
        reply_to: None,
        mentions: Vec::new(),
    }
}

/// User ids of names.
///
/// # Panics
/// When a name is no user id.
#[must_use]
pub fn users(names: &[&str]) -> Vec<UserId> {
    names.iter().map(|name| UserId::new(name).expect("a user id")).collect()
}

/// Milliseconds since the process began to look, and the machine's clock.
fn now() -> Now {
    Now { moment: Moment(u64::try_from(ORIGIN.elapsed().as_millis()).unwrap_or(u64::MAX)), time: wall() }
}

fn wall() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

fn instant(moment: Moment) -> tokio::time::Instant {
    // Far deadlines are looked at again after an hour.
    let at = now().moment.0.saturating_add(3_600_000).min(moment.0);
    (*ORIGIN + Duration::from_millis(at)).into()
}

/// The socket of the moment; it is cut off when this is dropped.
struct Connection {
    generation: Generation,
    say: mpsc::UnboundedSender<Say>,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Engine<F> {
    client: Client,
    address: SocketAddr,
    source: Option<IpAddr>,
    token: TokenProvider,
    meter: Arc<Meter>,
    /// When it dialled, until the relay's welcome.
    dialled: Option<Instant>,
    cache: Box<dyn CacheStore>,
    on_event: F,
    told: watch::Sender<State>,
    heard: mpsc::UnboundedSender<(Generation, Heard)>,
    connection: Option<Connection>,
    answers: BTreeMap<RequestId, Answered>,
    requests: u64,
}

impl<F: FnMut(Event) + Send + 'static> Engine<F> {
    async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut heard: mpsc::UnboundedReceiver<(Generation, Heard)>,
    ) {
        let restored = Restored { term: wall().0, ..self.cache.restore() };
        self.input(Input::Restored(restored));
        loop {
            let deadline = self.client.next_deadline();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.order(order),
                    None => return,
                },
                Some((generation, heard)) = heard.recv() => self.input(match heard {
                    Heard::Opened => Input::Opened(generation),
                    Heard::Frame(bytes) => Input::Frame(generation, bytes),
                    Heard::Closed(code, reason) => Input::Closed { generation, code, reason },
                }),
                () = sleep_until(instant(deadline.unwrap_or(Moment(u64::MAX)))) => self.input(Input::Tick),
            }
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Command(command, answer) => {
                self.requests += 1;
                let request = RequestId(self.requests);
                self.answers.insert(request, answer);
                self.input(Input::Command(request, command));
            }
            Order::Host(event) => self.input(Input::Host(event)),
            Order::Cut => {
                if let Some(connection) = self.connection.take() {
                    let generation = connection.generation;
                    drop(connection);
                    self.input(Input::Closed { generation, code: ABNORMAL, reason: String::new() });
                }
            }
        }
    }

    /// One input, and all that follows from it at once.
    fn input(&mut self, input: Input) {
        let mut next = Some(input);
        let mut follow = VecDeque::new();
        while let Some(input) = next {
            self.client.handle(now(), input);
            while let Some(output) = self.client.poll() {
                follow.extend(self.output(output));
            }
            next = follow.pop_front();
        }
    }

    fn output(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::NeedToken => return Some(Input::Token((self.token)(self.client.user()))),
            Output::Dial(generation) => {
                let (say, say_rx) = mpsc::unbounded_channel();
                let place = connection::Place { address: self.address, source: self.source };
                let meter = Arc::clone(&self.meter);
                meter.count_dial();
                self.dialled = Some(Instant::now());
                let run = connection::run(generation, place, meter, self.heard.clone(), say_rx);
                let task = tokio::spawn(run).abort_handle();
                self.connection = Some(Connection { generation, say, task });
            }
            Output::Transmit(generation, bytes) => self.say(generation, Say::Frame(bytes)),
            Output::Hangup { generation, code } => {
                self.say(generation, Say::Close(code));
                if let Some(connection) = self.connection.take_if(|open| open.generation == generation) {
                    // It ends by itself, so that what was said before is still sent.
                    tokio::spawn(async move {
                        connection.say.closed().await;
                        drop(connection);
                    });
                }
            }
            Output::Save(ticket, writes) => {
                return Some(match self.cache.save(&writes) {
                    Ok(()) => Input::Saved(ticket),
                    Err(error) => Input::SaveFailed(ticket, error.to_string()),
                });
            }
            Output::Load { ticket, conversation, from, to } => {
                return Some(Input::Loaded(ticket, self.cache.load(&conversation, from, to)));
            }
            // The goodbye went over the socket, too.
            Output::Beacon(_) | Output::Prepare(_) => {}
            Output::Event(event) => {
                if let Event::State(state) = &event {
                    if state.status == SessionStatus::Online
                        && let Some(dialled) = self.dialled.take()
                    {
                        self.meter.count_hello(dialled.elapsed());
                    }
                    self.told.send_replace(state.clone());
                }
                (self.on_event)(event);
            }
            Output::Reply(request, answer) => {
                if let Some(waiting) = self.answers.remove(&request) {
                    let _ = waiting.send(answer);
                }
            }
        }
        None
    }

    fn say(&self, generation: Generation, what: Say) {
        if let Some(connection) = self.connection.as_ref().filter(|open| open.generation == generation) {
            let _ = connection.say.send(what);
        }
    }
}
