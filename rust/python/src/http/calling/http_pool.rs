//! The pool, as Python has it.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit};
use turnout_core::http::answer::Asked;
use turnout_core::http::request::put_in_one_line;
use turnout_core::rules::Revision;
use turnout_core::sync::lock;
use turnout_core::wire::envelope::{self, Kind, ScanLimits};
use turnout_http::SyntaxLimits;

use crate::asyncio::callback::Run;
use crate::connection::Connection;
use crate::driver::transport::PostWriter;
use crate::http::calling::heads::{AnnotatedTool, Heads};
use crate::http::calling::pool::{Arriving, Pool};
use crate::http::calling::post::{HttpPost, Post};
use crate::http::calling::sockets::Sockets;

#[doc = text!("HttpPool")]
#[pyclass(frozen, module = "turnout._native")]
pub struct HttpPool(pub Arc<Pool>);

#[pymethods]
impl HttpPool {
    #[new]
    #[pyo3(signature = (connection, host, target, headers, *, max_connections, max_message_bytes, max_idle_ms))]
    fn new(
        connection: &Bound<'_, Connection>,
        host: Py<PyAny>,
        target: &str,
        headers: Vec<(String, Vec<u8>)>,
        max_connections: usize,
        max_message_bytes: usize,
        max_idle_ms: u64,
    ) -> Self {
        let syntax = SyntaxLimits { body_bytes: u64::MAX, ..SyntaxLimits::default() };
        let pool = Arc::new(Pool {
            connection: connection.clone().unbind(),
            host: Mutex::new(Some(host)),
            syntax,
            max_message_bytes,
            max_connections,
            max_idle: Duration::from_millis(max_idle_ms),
            heads: Heads::new(target, headers),
            sockets: Mutex::new(Sockets::new(max_connections)),
            handshake: Mutex::default(),
            arriving: Arriving::default(),
        });
        let weak: Weak<Pool> = Arc::downgrade(&pool);
        connection.get().driver().post(weak as Weak<dyn PostWriter>);
        Self(pool)
    }

    #[doc = text!("HttpPool.set_head")]
    fn set_head(&self, target: &str, headers: Vec<(String, Vec<u8>)>) {
        self.0.heads.set(target, headers);
    }

    #[doc = text!("HttpPool.set_param_headers")]
    fn set_param_headers(&self, tools: Vec<AnnotatedTool>) {
        self.0.heads.set_params(tools);
    }

    #[doc = text!("HttpPool.session")]
    #[getter]
    fn session<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.heads.session().map(|session| PyBytes::new(py, &session))
    }

    #[doc = text!("HttpPool.generation")]
    #[getter]
    fn generation(&self) -> u64 {
        self.0.heads.generation()
    }

    #[doc = text!("HttpPool.connections")]
    #[getter]
    fn connections(&self) -> usize {
        lock(&self.0.sockets).count()
    }

    #[doc = text!("HttpPool.expect")]
    fn expect(&self) {
        lock(&self.0.sockets).expect();
    }

    #[doc = text!("HttpPool.failed")]
    fn failed(&self, py: Python<'_>, why: &str, is_short: bool) {
        let unserved = lock(&self.0.sockets).failed(is_short);
        for post in unserved {
            self.0.note_opening(py, &post, false);
            if post.asked == Asked::Stream && post.number == 0 {
                // The server may come back: its own stream is asked for again, so many times.
                let nothing: Option<u64> = None;
                self.0.tell(py, intern!(py, "stream_ended"), (0, &*post.last_event_id, nothing));
            } else {
                self.0.lose(py, &post, why);
            }
        }
    }

    #[doc = text!("HttpPool.open_another")]
    fn open_another(&self, py: Python<'_>) {
        self.0.open_another(py);
    }

    #[doc = text!("HttpPool.awaits")]
    fn awaits(&self, number: u64) -> bool {
        self.0.awaits(number)
    }

    #[doc = text!("HttpPool.listen")]
    fn listen(&self, py: Python<'_>, number: u64, last_event_id: &str) {
        let before = if number == 0 { self.0.take_stream() } else { None };
        if let Some(before) = before {
            before.abort(py);
        }
        if number == 0 || self.0.awaits(number) {
            let post = Arc::new(Post::stream(number, last_event_id, self.0.revision()));
            self.0.dispatch(py, &post);
        }
    }

    #[doc = text!("HttpPool.end_session")]
    fn end_session(&self, py: Python<'_>) {
        let revision = lock(&self.0.handshake).revision.unwrap_or(Revision::V2025_11_25);
        self.0.dispatch(py, &Arc::new(Post::end(revision)));
    }

    #[doc = text!("HttpPool.reopen")]
    fn reopen(&self, py: Python<'_>) -> bool {
        {
            let mut sockets = lock(&self.0.sockets);
            sockets.open_session();
            // What it asked in the session before is nothing that it asked in the next one.
            sockets.drop_answers();
        }
        let (driver, now) = (self.0.driver(), self.0.driver().now());
        driver.run_core(py, Run::Inline, |core, events| core.lose_session(now, events));
        let (frame, revision) = {
            let handshake = lock(&self.0.handshake);
            (handshake.initialize.clone(), handshake.revision)
        };
        let (false, Some(revision)) = (frame.is_empty(), revision) else { return false };
        self.0.dispatch(py, &Arc::new(Post::aside(&frame, true, revision)));
        true
    }

    #[doc = text!("HttpPool.confirm")]
    fn confirm(&self, py: Python<'_>) {
        let (frame, revision) = {
            let handshake = lock(&self.0.handshake);
            (handshake.initialized.clone(), handshake.revision.unwrap_or(Revision::V2025_11_25))
        };
        self.0.dispatch(py, &Arc::new(Post::aside(&frame, false, revision)));
    }

    #[doc = text!("HttpPool.let_go")]
    fn let_go(&self, py: Python<'_>) {
        self.0.let_go(py);
    }

    #[doc = text!("HttpPool.expire")]
    fn expire(&self) {
        lock(&self.0.sockets).expire();
    }

    #[doc = text!("HttpPool.renewed")]
    fn renewed(&self, py: Python<'_>) {
        let held = lock(&self.0.sockets).renewed();
        self.0.dispatch_all(py, held);
    }

    #[doc = text!("HttpPool.not_renewed")]
    fn not_renewed(&self, py: Python<'_>, message: &str, data: &[u8]) {
        let held = lock(&self.0.sockets).not_renewed();
        for post in held {
            self.0.fail(py, &post, message, Some(data));
        }
    }

    #[doc = text!("HttpPool.repeat")]
    fn repeat(&self, py: Python<'_>, post: &HttpPost) {
        if post.0.is_aside || post.0.number == 0 || self.0.awaits(post.0.number) {
            self.0.dispatch(py, &post.0);
        }
    }

    #[doc = text!("HttpPool.settle")]
    fn settle(&self, py: Python<'_>, post: &HttpPost, body: Vec<u8>) -> bool {
        let mut body = body;
        put_in_one_line(&mut body);
        let is_its_own = envelope::scan(&body, &ScanLimits::default()).is_ok_and(|envelope| {
            envelope.kind == Kind::Error && !post.0.id.is_empty() && envelope.id.of(&body) == &*post.0.id
        });
        if is_its_own {
            self.0.hand_over(py, post.0.number, &body);
        }
        is_its_own
    }

    #[doc = text!("HttpPool.fail")]
    #[pyo3(signature = (post, message, data = None))]
    fn fail(&self, py: Python<'_>, post: &HttpPost, message: &str, data: Option<&[u8]>) {
        self.0.fail(py, &post.0, message, data);
    }

    #[doc = text!("HttpPool.lose")]
    fn lose(&self, py: Python<'_>, number: u64, why: &str) {
        let post = Arc::new(Post::stream(number, "", self.0.revision()));
        self.0.lose(py, &post, why);
    }

    #[doc = text!("HttpPool.close")]
    fn close(&self, py: Python<'_>) {
        let idle = lock(&self.0.sockets).end();
        for socket in idle {
            socket.abort(py);
        }
        let host = lock(&self.0.host).take();
        drop(host);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(host) = self.0.host.try_lock() {
            visit.call(&*host)?;
        }
        visit.call(&self.0.connection)
    }

    fn __clear__(&self) {
        let host = lock(&self.0.host).take();
        drop(host);
    }
}
