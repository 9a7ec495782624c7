//! The door: a thread of its own, of lower priority, on which connections are served until they have said hello.
//!
//! A handshake costs more than a message, and anybody may begin as many as there are. On the door they wait for each
//! other, and not in the way of those who are in. Whoever has said hello goes on among the workers, the runtime in which
//! the rest of the relay lives. Plain HTTP is served at the door.
//!
//! Low priority alone is not enough: what decides is how much of a processor each gets, and whoever wakes still waits for
//! the end of a slice, 4 ms with Linux's usual clock, several times on a message's way. So the door steps aside by itself
//! after a while of work, and others wait no longer than that.
//!
//! *Invariant:* sockets are the workers' reactor's from the start, so a connection can go over while it is open.

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::thread;
use std::time::Instant;

use futures_util::future::poll_fn;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

#[cfg(target_os = "linux")]
use super::limits::DOOR_NICE;
use super::limits::DOOR_TURN;

/// Starts the thread; it ends with the program.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn open() -> std::io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let door = runtime.handle().clone();
    thread::Builder::new().name("door".into()).spawn(move || {
        // Without it the door is only a thread among others.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), DOOR_NICE);
        runtime.block_on(std::future::pending::<()>());
    })?;
    Ok(door)
}

/// Takes the next connection; called on the door.
///
/// # Errors
/// What the system says.
pub(crate) async fn accept(
    listener: &TcpListener,
    workers: &Handle,
) -> std::io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|context| {
        step_aside();
        let _reactor = workers.enter();
        listener.poll_accept(context)
    })
    .await
}

/// Does work of the door, which steps aside between its steps.
pub(crate) async fn attend<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        step_aside();
        work.as_mut().poll(context)
    })
    .await
}

/// Lets other threads go first when the door has been at it for [`DOOR_TURN`].
fn step_aside() {
    thread_local!(static SINCE: Cell<Instant> = Cell::new(Instant::now()));
    if SINCE.get().elapsed() >= DOOR_TURN {
        thread::yield_now();
        SINCE.set(Instant::now());
    }
}

/// Serves a connection at the door until `is_settled` comes, then among the workers. The connection is in a box of its
/// own, since the socket may remember the task at the door, and that one's memory, for as long as it is open.
pub(crate) async fn pass(
    mut connection: Pin<Box<impl Future<Output = ()> + Send + 'static>>,
    is_settled: oneshot::Receiver<()>,
    workers: &Handle,
) {
    let is_passing = async {
        tokio::select! {
            biased;
            () = &mut connection => false,
            Ok(()) = is_settled => true,
        }
    };
    if attend(is_passing).await {
        workers.spawn(connection);
    }
}
