//! A TCP proxy: a network that can be slow, fall silent, come back, or break.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// How the network is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Weather {
    /// Nothing is forwarded; what comes is kept by the peers' kernels, as with a cable that was pulled out.
    cut: bool,
    /// What is forwarded waits so long.
    delay: Duration,
    /// Connections of an older number are reset.
    resets: u64,
}

/// A proxy on a port of its own; it ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens, and forwards to `to`.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let weather = watch::Sender::new(Weather { cut: false, delay: Duration::ZERO, resets: 0 });
        let task = tokio::spawn(accept(listener, to, weather.subscribe()));
        Self { address, weather, task }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Falls silent: nothing gets through, and nobody is told. New connections are taken and get nowhere.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.cut = true);
    }

    /// Lets through again what waited and what comes.
    pub fn heal(&self) {
        self.weather.send_modify(|weather| weather.cut = false);
    }

    /// Breaks every connection there is.
    pub fn reset(&self) {
        self.weather.send_modify(|weather| weather.resets += 1);
    }

    /// Everything takes so much longer, each way.
    pub fn delay(&self, delay: Duration) {
        self.weather.send_modify(|weather| weather.delay = delay);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, weather: watch::Receiver<Weather>) {
    while let Ok((near, _)) = listener.accept().await {
        tokio::spawn(connection(near, to, weather.clone()));
    }
}

async fn connection(near: TcpStream, to: SocketAddr, mut weather: watch::Receiver<Weather>) {
    let resets = weather.borrow().resets;
    let (mut one, mut other) = (weather.clone(), weather.clone());
    let forward = async {
        if one.wait_for(|weather| !weather.cut).await.is_err() {
            return;
        }
        let Ok(far) = TcpStream::connect(to).await else { return };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        // An end on one side is an end on both: nothing here half-closes.
        tokio::select! {
            () = pump(near_in, far_out, &mut one) => {}
            () = pump(far_in, near_out, &mut other) => {}
        }
    };
    tokio::select! {
        () = forward => {}
        _ = weather.wait_for(|weather| weather.resets != resets) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, weather: &mut watch::Receiver<Weather>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if weather.wait_for(|weather| !weather.cut).await.is_err() {
            return;
        }
        let count = match from.read(&mut buffer).await {
            Ok(count @ 1..) => count,
            Ok(0) | Err(_) => return,
        };
        let delay = weather.borrow().delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        // A cut that came meanwhile holds this back, too.
        if weather.wait_for(|weather| !weather.cut).await.is_err()
            || to.write_all(&buffer[..count]).await.is_err()
        {
            return;
        }
    }
}
