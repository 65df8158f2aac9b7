//! The pool of one connection: which message takes which socket, and the sockets that are opened for it.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::call::PyCallArgs;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;
use turnout_core::connection::output::addresses::StreamId;
use turnout_core::connection::output::recycle;
use turnout_core::connection::posts::Posts;
use turnout_core::http::answer::Asked;
use turnout_core::limits::Exceeded;
use turnout_core::memory::GRAIN;
use turnout_core::rules::{Revision, method};
use turnout_core::sync::lock;
use turnout_http::SyntaxLimits;

use crate::asyncio::raised;
use crate::connection::Connection;
use crate::driver::Driver;
use crate::driver::memory;
use crate::driver::transport::PostWriter;
use crate::http::calling::heads::Heads;
use crate::http::calling::post::Post;
use crate::http::calling::sockets::{Carrier, Chosen, Released, Sockets};

/// The sockets of one connection.
pub struct Pool {
    pub connection: Py<Connection>,
    /// Says what refusals mean, and opens sockets; None when it is closed.
    pub host: Mutex<Option<Py<PyAny>>>,
    pub syntax: SyntaxLimits,
    pub max_message_bytes: usize,
    pub max_connections: usize,
    pub max_idle: Duration,
    pub heads: Heads,
    pub sockets: Mutex<Sockets>,
    pub handshake: Mutex<Handshake>,
    pub arriving: Arriving,
}

/// Bytes of answers that came and are no whole message yet, on all sockets.
#[derive(Default)]
pub struct Arriving {
    bytes: AtomicUsize,
    /// How many of them the connection was told of.
    told: AtomicUsize,
}

/// The handshake of the session, to be made again.
#[derive(Default)]
pub struct Handshake {
    pub initialize: Vec<u8>,
    pub initialized: Vec<u8>,
    /// The revision of what was posted last.
    pub revision: Option<Revision>,
}

impl Pool {
    pub fn driver(&self) -> &Arc<Driver> {
        self.connection.get().driver()
    }

    /// Calls a method of the host's, if there is a host.
    pub fn tell<'py>(&self, py: Python<'py>, name: &Bound<'py, PyString>, arguments: impl PyCallArgs<'py>) {
        self.ask(py, name, arguments);
    }

    /// Likewise, for what it says.
    pub fn ask<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyString>,
        arguments: impl PyCallArgs<'py>,
    ) -> Option<Bound<'py, PyAny>> {
        let host = lock(&self.host).as_ref().map(|host| host.clone_ref(py))?;
        let told = host.bind(py).call_method1(name, arguments);
        told.map_err(|error| raised::report(py, None, error, Some(host.bind(py)))).ok()
    }

    /// Whether a request of ours is waited for.
    pub fn awaits(&self, number: StreamId) -> bool {
        self.driver().core().awaits(number)
    }

    /// The revision in force.
    pub fn revision(&self) -> Revision {
        self.driver().core().rules.revision
    }

    /// Gives the target and the fields of a request to `act`.
    pub fn with_head<T>(&self, post: &Post, act: impl FnOnce(&str, &[(&str, Cow<'_, [u8]>)]) -> T) -> T {
        self.heads.with(post, act)
    }

    /// Counts what a socket holds of an answer now, in place of `before`, for the connection and so for the process.
    pub fn note_arriving(&self, before: usize, now: usize) {
        let Arriving { bytes, told } = &self.arriving;
        if now >= before {
            bytes.fetch_add(now - before, Ordering::Relaxed);
        } else {
            bytes.fetch_sub(before - now, Ordering::Relaxed);
        }
        let all = bytes.load(Ordering::Relaxed);
        let last = told.load(Ordering::Relaxed);
        if all.abs_diff(last) >= GRAIN || all == 0 && last != 0 {
            told.store(all, Ordering::Relaxed);
            self.driver().core().note_arriving(all);
            memory::settle();
        }
    }

    /// Sends a request on a socket of its own.
    pub fn dispatch(self: &Arc<Self>, py: Python<'_>, post: &Arc<Post>) {
        let mut is_freed = false;
        loop {
            let chosen = lock(&self.sockets).choose(post, is_freed);
            match chosen {
                Chosen::Idle(socket) => {
                    if Arc::clone(&socket).send(py, post) {
                        return;
                    }
                    lock(&self.sockets).forget(post.number);
                    socket.abort(py);
                    is_freed = true;
                }
                Chosen::Login => return self.tell(py, intern!(py, "log_in"), ()),
                Chosen::Later { opens: true } => return self.tell(py, intern!(py, "connect"), ()),
                Chosen::Later { opens: false } | Chosen::Over => return,
                Chosen::Full => {
                    let exceeded = Exceeded { limit: "max_connections", value: self.max_connections };
                    let unsent = exceeded.unsent();
                    return self.fail(py, post, &exceeded.to_string(), Some(unsent.as_bytes()));
                }
            }
        }
    }

    /// Sends what waited.
    pub fn dispatch_all(self: &Arc<Self>, py: Python<'_>, posts: VecDeque<Arc<Post>>) {
        for post in posts {
            self.dispatch(py, &post);
        }
    }

    /// Takes a socket that is open now.
    pub fn add(self: &Arc<Self>, py: Python<'_>, socket: &Arc<dyn Carrier>) {
        lock(&self.sockets).opened();
        self.release(py, socket);
    }

    /// Takes a socket whose request is answered: for what waits, or for the next one.
    pub fn release(self: &Arc<Self>, py: Python<'_>, socket: &Arc<dyn Carrier>) {
        let released = lock(&self.sockets).release(socket);
        match released {
            Released::Over => socket.abort(py),
            Released::Rests => {}
            Released::Carries(post) => {
                if !Arc::clone(socket).send(py, &post) {
                    lock(&self.sockets).take_back(post);
                    socket.abort(py);
                }
            }
        }
    }

    /// Forgets a socket that is gone; what waited for its turn gets another one.
    pub fn remove(&self, py: Python<'_>, socket: &Arc<dyn Carrier>) {
        lock(&self.sockets).remove(socket);
        self.open_another(py);
    }

    /// Takes away the stream of the server's own messages: there is one at most.
    pub fn take_stream(&self) -> Option<Arc<dyn Carrier>> {
        let mut sockets = lock(&self.sockets);
        sockets.withdraw(0);
        sockets.forget(0)
    }

    /// Opens a socket where something waits for one and none is opened.
    pub fn open_another(&self, py: Python<'_>) {
        let wants = lock(&self.sockets).wants_another();
        if wants {
            self.tell(py, intern!(py, "connect"), ());
        }
    }

    /// Lets what waits for the session go.
    pub fn let_go(self: &Arc<Self>, py: Python<'_>) {
        let held = lock(&self.sockets).session_opened();
        self.dispatch_all(py, held);
    }
}

impl PostWriter for Pool {
    fn post(self: Arc<Self>, py: Python<'_>, posts: Posts) {
        let Posts { bytes, messages, closed } = posts;
        let mut unsent = Vec::new();
        let mut closing = Vec::new();
        for number in closed {
            let mut sockets = lock(&self.sockets);
            match sockets.forget(number) {
                Some(socket) => closing.push(socket),
                None if sockets.withdraw(number) => unsent.push(number),
                None => {}
            }
        }
        for message in &messages {
            // What the server never saw it need not be told of.
            if message.cancels != 0 && unsent.contains(&message.cancels) {
                continue;
            }
            let frame = &bytes[message.frame.clone()];
            let post = Arc::new(Post::of(message, frame));
            let ends_opening = post.asked == Asked::Message && *post.method == *method::INITIALIZED;
            {
                let mut handshake = lock(&self.handshake);
                handshake.revision = Some(message.revision);
                if post.opens_session() {
                    handshake.initialize = frame.to_vec();
                } else if ends_opening {
                    handshake.initialized = frame.to_vec();
                }
            }
            if ends_opening {
                lock(&self.sockets).open_session();
            }
            self.dispatch(py, &post);
        }
        recycle(bytes);
        for socket in closing {
            socket.abort(py);
        }
    }
}
