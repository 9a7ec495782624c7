//! The relay from start to stop.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hongyan_protocol::Code;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower_service::Service as _;

use super::addresses::Network;
use super::api::{Api, ApiKeys};
use super::core_thread::{self, CoreEvents, End, Machine};
use super::demo;
use super::door;
use super::gate::{Gate, Pass};
use super::http::{Front, Peer, router};
#[cfg(target_os = "linux")]
use super::limits::UNSENT_BYTES_MAX;
use super::limits::{
    ACCEPT_PAUSE, CLOSE_TIME, CORE_END_TIME, HEAD_BYTES_MAX, HEADERS_MAX, METRICS_CONNECTIONS_MAX,
    REFUSALS_MAX, UNACCEPTED_MAX,
};
use super::lines::CoreHandle;
use super::metrics;
use super::origin::OriginPolicy;
use super::pace::Pace;
use super::settings::Settings;
use super::tokens::Keyring;
use crate::core::io::Verifier;
use crate::core::{Input, Moment, Now, Output, Relay};
use crate::store::disk::DiskStore;
use crate::store::{Store, StoreError};

/// Why the program ends without having been asked to.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It could not start; the operator can do something about it.
    Start(String),
    /// It had to give up.
    Running(String),
}

/// Serves until a signal ends it.
///
/// # Errors
/// [`Failure`], with a sentence for people.
pub(crate) async fn serve(settings: Settings, dev: bool) -> Result<(), Failure> {
    if dev && !settings.listen.ip().is_loopback() {
        return Err(Failure::Start(format!(
            "--dev gives tokens to everybody who asks, so it listens on this machine only: use --listen \
             127.0.0.1:{}, or leave --dev out and configure keys.",
            settings.listen.port()
        )));
    }
    let keyring = if dev { None } else { Some(Arc::new(Keyring::new(&settings).map_err(Failure::Start)?)) };
    let api = Api::new(ApiKeys::new(&settings.api_keys).map_err(Failure::Start)?);
    let mut signals =
        Signals::new().map_err(|error| Failure::Start(format!("The relay can't take signals: {error}.")))?;
    let listener = listen(settings.listen).map_err(|error| {
        Failure::Start(match error.kind() {
            std::io::ErrorKind::AddrInUse => format!(
                "Another program listens on {} already: stop it, or choose another address with --listen.",
                settings.listen
            ),
            _ => format!("The relay can't listen on {}: {error}.", settings.listen),
        })
    })?;
    let address = listener.local_addr().unwrap_or(settings.listen);
    // Connections have it from the one that listens. Without it there is only more in the system than need be.
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(&listener).set_tcp_notsent_lowat(UNSENT_BYTES_MAX);

    let metrics_listener = match settings.metrics_listen.0 {
        Some(address) => Some(TcpListener::bind(address).await.map_err(|error| {
            Failure::Start(format!("The relay can't listen on {address} for its metrics: {error}."))
        })?),
        None => None,
    };

    let metrics_address = metrics_listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let core = &settings.core;
    let sockets = Gate::new(core.connections_max, settings.connections_per_address_max);
    let connections = Gate::new(
        core.connections_max.saturating_add(REFUSALS_MAX),
        settings.connections_per_address_max.saturating_add(REFUSALS_MAX),
    );
    let origins = OriginPolicy { allowed: settings.allowed_origins.clone(), loopback: dev };
    let proxies = settings.trusted_proxies.clone();
    let pace = Pace::new(settings.opens_per_address_per_second, settings.opens_per_address_burst);
    let front = Arc::new(Front::new(origins, proxies, Arc::clone(&sockets), pace, api, dev));
    let door =
        door::open().map_err(|error| Failure::Start(format!("The system gives no thread: {error}.")))?;
    let head_time = Duration::from_millis(settings.head_ms);
    let serving = Serving { workers: Handle::current(), head_time };
    let routes = router(Arc::clone(&front));
    let proxies = front.trusted_proxies.clone();
    // Ended with this function, however it ends: nothing is taken while the workers go.
    let mut accepting = JoinSet::new();
    accepting.spawn_on(accept(listener, serving.clone(), routes, proxies, connections), &door);
    if let Some(listener) = metrics_listener {
        let gate = Gate::new(METRICS_CONNECTIONS_MAX, METRICS_CONNECTIONS_MAX);
        let routes = metrics::router(Arc::clone(&front));
        accepting.spawn_on(accept(listener, serving, routes, Vec::new(), gate), &door);
    }

    let opened = open(settings.clone(), keyring, Arc::clone(&front));
    let (handle, events, store) = tokio::select! {
        opened = tokio::task::spawn_blocking(opened) => match opened {
            Ok(opened) => opened.map_err(Failure::Start)?,
            Err(_) => return Err(Failure::Running("The relay broke while it opened its data.".into())),
        },
        () = signals.next() => return Ok(()),
    };
    let _ = front.core.set(handle.clone());
    front.set_unready(None);
    announce(address, metrics_address, &settings.data, dev);

    until_the_end(&settings, &front, &handle, events, store, &mut signals, &sockets).await
}

/// As `TcpListener::bind` does, with a longer line of those who are to be accepted.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(UNACCEPTED_MAX)
}

/// What opens the data and starts the core; it may take seconds.
fn open(
    settings: Settings,
    keyring: Option<Arc<Keyring>>,
    front: Arc<Front>,
) -> impl FnOnce() -> Result<(CoreHandle, CoreEvents, DiskStore), String> + Send + 'static {
    move || {
        create_folder(&settings.data)?;
        let store = DiskStore::open(&settings.data).map_err(|error| unopened(&error))?;
        let keyring = match keyring {
            Some(keyring) => keyring,
            None => {
                let keyring = Arc::new(Keyring::for_development(&settings)?);
                if let Some(dev) = &front.dev {
                    let _ = dev.set(Arc::clone(&keyring));
                }
                keyring
            }
        };
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| format!("The system gives no chance: {error}."))?;
        let relay = Relay::open(settings.core.clone(), store.clone(), keyring, seed)
            .map_err(|error| unopened(&error))?;
        let committing = store.clone();
        let (handle, events) = core_thread::spawn(
            relay,
            Box::new(move |batch| committing.commit(batch)),
            settings.core.outgoing_bytes_target,
        )
        .map_err(|error| format!("The system gives no thread: {error}."))?;
        Ok((handle, events, store))
    }
}

impl<S: Store, V: Verifier> Machine for Relay<S, V> {
    fn handle(&mut self, now: Now, input: Input) {
        Relay::handle(self, now, input);
    }

    fn poll(&mut self) -> Option<Output> {
        Relay::poll(self)
    }

    fn next_deadline(&self) -> Option<Moment> {
        Relay::next_deadline(self)
    }

    fn take_fault(&mut self) -> Option<String> {
        Relay::take_fault(self)
    }
}

fn unopened(error: &StoreError) -> String {
    let (StoreError::Engine(why) | StoreError::Damaged(why)) = error;
    format!("The data can't be opened: {}.", why.trim_end_matches('.'))
}

fn create_folder(data: &Path) -> Result<(), String> {
    let mut folder = std::fs::DirBuilder::new();
    folder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
    folder.create(data).map_err(|error| format!("The data folder {} can't be made: {error}.", data.display()))
}

/// One line for people, and one that scripts wait for.
fn announce(address: SocketAddr, metrics: Option<SocketAddr>, data: &Path, dev: bool) {
    let mut out = std::io::stdout().lock();
    let version = env!("CARGO_PKG_VERSION");
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let page = if dev || demo::EMBEDDED { "demo/" } else { "" };
    let url = format!("http://{}/{page}", SocketAddr::new(host, address.port()));
    let mut text =
        format!("hongyan-relay {version} listens on {address}; its data is in {}.\n", data.display());
    if dev {
        text.push_str(
            "\n  **  DEVELOPMENT MODE: everybody on this machine can sign in as anybody.       **\n  \
             **  Never put it behind a proxy or on a network. Without --dev it needs keys.  **\n\n",
        );
        text.push_str(&format!("The demo: {url}\n"));
    }
    if let Some(metrics) = metrics {
        text.push_str(&format!("metrics: http://{metrics}/metrics\n"));
    }
    text.push_str(&format!("ready: {url}\n"));
    // Nobody may be reading, which is no reason not to serve.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

async fn until_the_end(
    settings: &Settings,
    front: &Front,
    core: &CoreHandle,
    mut events: CoreEvents,
    store: DiskStore,
    signals: &mut Signals,
    sockets: &Gate,
) -> Result<(), Failure> {
    tokio::select! {
        () = signals.next() => {}
        end = events.end.recv() => return Err(fail(front, sockets, end).await),
    }
    tracing::info!("The relay stops; a second signal ends it at once.");
    front.set_unready(Some("The relay is stopping."));
    core.drain(settings.drain_spread());
    let leave = async {
        // What was accepted is committed first, however long the disk takes; then clients leave by themselves.
        let _ = (&mut events.drained).await;
        let _ = timeout(settings.drain_wait(), sockets.empty()).await;
        core.close_all(Code::GOING_AWAY);
        let _ = timeout(CLOSE_TIME, sockets.empty()).await;
        core.stop();
        events.end.recv().await
    };
    let bound = settings.drain_wait() + CLOSE_TIME + CORE_END_TIME;
    let end = tokio::select! {
        end = timeout(bound, leave) => end,
        () = signals.next() => return Err(Failure::Running("The relay ended at once, by a second signal.".into())),
    };
    match end {
        Ok(Some(End::Stopped)) => {
            // The store is flushed and closed when the thread is gone; without that nothing durable is lost, it only
            // opens slower.
            let thread = events.thread;
            let close = move || {
                let _ = thread.join();
                store.flush()
            };
            let _ = timeout(CORE_END_TIME, tokio::task::spawn_blocking(close)).await;
            tracing::info!("The relay has stopped.");
            Ok(())
        }
        Ok(end) => Err(fail(front, sockets, end).await),
        Err(_) => Err(Failure::Running(format!(
            "The relay did not come to rest within {} s, and ends now.",
            bound.as_secs()
        ))),
    }
}

/// The core is no more: connections are closed by then or never, and the process ends.
async fn fail(front: &Front, sockets: &Gate, end: Option<End>) -> Failure {
    front.set_unready(Some("The relay has failed and ends."));
    match end {
        Some(End::Failed(sentence)) => {
            let _ = timeout(CLOSE_TIME, sockets.empty()).await;
            Failure::Running(sentence)
        }
        Some(End::Panicked(who)) => {
            Failure::Running(format!("A defect of the relay ended {who}; the relay ends with it."))
        }
        Some(End::Stopped) | None => Failure::Running("The core ended unasked.".into()),
    }
}

/// What asks the program to stop: SIGTERM and SIGINT, or Ctrl-C where there are no signals.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What all that is accepted is served with.
#[derive(Clone)]
struct Serving {
    /// Where connections live that have said hello.
    workers: Handle,
    /// How long a request's head may take.
    head_time: Duration,
}

async fn accept(
    listener: TcpListener,
    Serving { workers, head_time }: Serving,
    router: Router,
    trusted_proxies: Vec<Network>,
    connections: Arc<Gate>,
) {
    loop {
        let (stream, peer) = match door::accept(&listener, &workers).await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("A connection could not be taken: {error}.");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // A proxy's connections are its clients'; those are bounded when they ask for a WebSocket.
        let proxied = trusted_proxies.iter().any(|network| network.contains(peer.ip()));
        let Ok(pass) = connections.enter((!proxied).then(|| peer.ip())) else { continue };
        // Frames are gathered already; the kernel must not wait for more.
        let _ = stream.set_nodelay(true);
        tokio::spawn(door::attend(serve_connection(stream, peer, router.clone(), pass, head_time)));
    }
}

/// One TCP connection's requests, until it ends or becomes a WebSocket.
async fn serve_connection(
    stream: TcpStream,
    address: SocketAddr,
    router: Router,
    pass: Pass,
    head_time: Duration,
) {
    let peer = Peer { address, pass: Arc::new(pass) };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.clone().call(request.map(Body::new))
    });
    // Errors here are the peer's: a broken connection, a request that is none.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}
