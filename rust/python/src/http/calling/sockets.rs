//! The sockets to one server, without any I/O: which are there, what each carries, and what waits for one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;
use pyo3::Python;
use turnout_core::connection::output::addresses::StreamId;
use turnout_core::http::answer::Asked;
use turnout_core::rules::method;

use crate::http::calling::post::Post;

/// Carries one request after the other: a socket, as the pool has it.
pub trait Carrier: Send + Sync {
    /// Sends one request; false where it is over.
    fn send(self: Arc<Self>, py: Python<'_>, post: &Arc<Post>) -> bool;

    /// Closes it, and what it carries is lost.
    fn abort(&self, py: Python<'_>);
}

/// All of them.
#[derive(Default)]
pub struct Sockets {
    max_connections: usize,
    /// The one that was used last is used next.
    idle: Vec<Arc<dyn Carrier>>,
    /// How many sockets there are, and how many of them are not open yet.
    count: usize,
    opening: usize,
    /// What waits for those.
    waiting: VecDeque<Arc<Post>>,
    /// Where the streams of our requests are.
    carrying: HashMap<StreamId, Arc<dyn Carrier>, RandomState>,
    /// What waits until the session is open, or for other credentials.
    held: VecDeque<Arc<Post>>,
    is_opening: bool,
    login: Login,
    is_over: bool,
}

/// Whether the credentials hold that requests are sent with.
#[derive(Default, PartialEq, Eq)]
enum Login {
    #[default]
    Holds,
    /// The next request asks for others.
    Expired,
    /// Others are asked for.
    Asked,
}

/// How a request gets a socket.
pub enum Chosen {
    Idle(Arc<dyn Carrier>),
    /// It waits for one that is opened, or for the session.
    Later {
        opens: bool,
    },
    /// It waits for credentials, which are to be asked for.
    Login,
    Full,
    Over,
}

/// What becomes of a socket that carries nothing now.
pub enum Released {
    /// It carries what waited.
    Carries(Arc<Post>),
    Rests,
    /// There is no use for it.
    Over,
}

impl Sockets {
    /// At most so many.
    pub fn new(max_connections: usize) -> Self {
        Self { max_connections, ..Self::default() }
    }

    /// Chooses a socket. With `is_freed` one was just closed, whose place goes to what waits.
    pub fn choose(&mut self, post: &Arc<Post>, is_freed: bool) -> Chosen {
        if self.is_over {
            return Chosen::Over;
        }
        // A session may be ended by whoever opened it.
        let waits_for_login = self.login != Login::Holds && post.asked != Asked::End;
        let waits_for_session = self.is_opening && !post.is_aside && *post.method != *method::INITIALIZED;
        if waits_for_login || waits_for_session {
            if self.held.len() >= self.max_connections {
                return Chosen::Full;
            }
            self.held.push_back(Arc::clone(post));
            if self.login == Login::Expired {
                self.login = Login::Asked;
                return Chosen::Login;
            }
            return Chosen::Later { opens: false };
        }
        if let Some(socket) = self.idle.pop() {
            self.carry(post, &socket);
            return Chosen::Idle(socket);
        }
        let is_full = self.count >= self.max_connections;
        if is_full && !is_freed || self.waiting.len() >= self.max_connections {
            return Chosen::Full;
        }
        self.waiting.push_back(Arc::clone(post));
        if !is_full {
            self.expect();
        }
        Chosen::Later { opens: !is_full }
    }

    /// Counts a socket that is being opened.
    pub fn expect(&mut self) {
        self.count += 1;
        self.opening += 1;
    }

    /// One of them is open.
    pub fn opened(&mut self) {
        self.opening = self.opening.saturating_sub(1);
    }

    /// One of them could not be opened: what waits for it in vain. Where the machine is short of sockets, what cannot
    /// have one of its own waits for another one's, as long as there are others.
    pub fn failed(&mut self, is_short: bool) -> Vec<Arc<Post>> {
        self.count = self.count.saturating_sub(1);
        self.opening = self.opening.saturating_sub(1);
        if is_short && self.count > self.opening {
            return Vec::new();
        }
        let extra = self.waiting.len().saturating_sub(self.opening);
        self.waiting.drain(..extra).collect()
    }

    /// Takes a socket whose request is answered.
    pub fn release(&mut self, socket: &Arc<dyn Carrier>) -> Released {
        if self.is_over {
            return Released::Over;
        }
        let Some(post) = self.waiting.pop_front() else {
            self.idle.push(Arc::clone(socket));
            return Released::Rests;
        };
        self.carry(&post, socket);
        Released::Carries(post)
    }

    /// The socket that was to carry a request is over: it waits for another one, before the others.
    pub fn take_back(&mut self, post: Arc<Post>) {
        self.carrying.remove(&post.number);
        self.waiting.push_front(post);
    }

    /// Forgets a socket that is gone.
    pub fn remove(&mut self, socket: &Arc<dyn Carrier>) {
        self.count = self.count.saturating_sub(1);
        self.idle.retain(|idle| !Arc::ptr_eq(idle, socket));
    }

    /// Whether another one is to be opened: something waits for one and none is opened. It is counted then.
    pub fn wants_another(&mut self) -> bool {
        let wants = self.waiting.len() > self.opening && !self.is_over;
        if wants {
            self.expect();
        }
        wants
    }

    /// How many there are, those that are being opened included.
    pub fn count(&self) -> usize {
        self.count
    }

    fn carry(&mut self, post: &Post, socket: &Arc<dyn Carrier>) {
        if post.number != 0 || post.asked == Asked::Stream {
            self.carrying.insert(post.number, Arc::clone(socket));
        }
    }

    /// The socket of a stream carries it no more.
    pub fn forget(&mut self, number: StreamId) -> Option<Arc<dyn Carrier>> {
        self.carrying.remove(&number)
    }

    /// Removes the request of a number, if it was not sent.
    pub fn withdraw(&mut self, number: StreamId) -> bool {
        let before = self.waiting.len() + self.held.len();
        // Messages that are no requests have the number 0, too.
        let stays = |post: &Arc<Post>| post.number != number || number == 0 && post.asked != Asked::Stream;
        self.waiting.retain(stays);
        self.held.retain(stays);
        self.waiting.len() + self.held.len() < before
    }

    /// Removes the answers of ours that were not sent.
    pub fn drop_answers(&mut self) {
        self.waiting.retain(|post| !post.is_answer());
        self.held.retain(|post| !post.is_answer());
    }

    /// Has everything but a handshake wait until [`Sockets::session_opened`].
    pub fn open_session(&mut self) {
        self.is_opening = true;
    }

    /// What waited for the session, and may wait for credentials now.
    pub fn session_opened(&mut self) -> VecDeque<Arc<Post>> {
        self.is_opening = false;
        std::mem::take(&mut self.held)
    }

    /// Has everything wait for other credentials from now on, which the first of them asks for.
    pub fn expire(&mut self) {
        if self.login == Login::Holds {
            self.login = Login::Expired;
        }
    }

    /// There are other credentials: what waited for them, and may wait for the session now.
    pub fn renewed(&mut self) -> VecDeque<Arc<Post>> {
        self.login = Login::Holds;
        std::mem::take(&mut self.held)
    }

    /// There are none: what waited for them. The next request asks again.
    pub fn not_renewed(&mut self) -> VecDeque<Arc<Post>> {
        if self.login != Login::Asked {
            return VecDeque::new();
        }
        self.login = Login::Expired;
        std::mem::take(&mut self.held)
    }

    /// Ends them all; those that rest are to be closed.
    pub fn end(&mut self) -> Vec<Arc<dyn Carrier>> {
        self.is_over = true;
        self.waiting.clear();
        self.held.clear();
        self.carrying.clear();
        std::mem::take(&mut self.idle)
    }
}
